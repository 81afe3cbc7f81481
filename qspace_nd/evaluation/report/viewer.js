// One person's map: three planes, clusters of the volume above a threshold, and how many healthy
// people have clusters as large. Volumes lie in the page; nothing is fetched.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const HEALTHY = DATA.healthy, PEOPLE = HEALTHY ? HEALTHY.length : 0; // of each, its clusters' masses
const { room: ROOM, sizes: SIZES, steps: STEPS } = DATA; // along x, y, z: voxels, mm, steps in memory
const SIZE = ROOM.reduce((a, b) => a * b);
const ACROSS = [[1, 2], [0, 2], [0, 1]]; // of the plane across x, y, z: to the right and upwards
const ENDS = ["L", "R", "P", "A", "I", "S"];
const state = { share: DATA.start, least: DATA.least, at: ROOM.map((n) => n >> 1) };
const held = { underlays: {}, deviations: {} }; // volumes, once unpacked
let clusters = [], numbers = new Int32Array(SIZE); // of each voxel its cluster that is shown, from 1

// --- Volumes

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function mask(text) {
  const bytes = await unpacked(text);
  return Uint8Array.from({ length: SIZE }, (_, i) => (bytes[i >> 3] >> (i & 7)) & 1);
}

async function volume({ near, bits, low, step, data }) {
  const bytes = await unpacked(data), values = new Float64Array(SIZE).fill(NaN);
  const half = bytes.length / 2, inside = near ? held.near : held.mask;
  for (let i = 0, n = 0; i < SIZE; i++) {
    if (!inside[i]) continue;
    values[i] = low + step * (bits === 16 ? 256 * bytes[n] + bytes[half + n] : bytes[n]);
    n++;
  }
  return values;
}

async function unpack() {
  [held.mask, held.near] = [await mask(DATA.mask), await mask(DATA.near)];
  held.map = await volume(DATA.map);
  if (DATA.labels) held.labels = await mask(DATA.labels);
  if (DATA.regions) held.regions = await volume(DATA.regions.volume);
  for (const kind of ["underlays", "deviations"])
    for (const name in DATA[kind]) held[kind][name] = await volume(DATA[kind][name]);
}

// --- Places: voxels are counted along x, y, z of the world, and stored otherwise

const indexOf = ([x, y, z]) => DATA.origin + x * STEPS[0] + y * STEPS[1] + z * STEPS[2];
const placeOf = (i) => STEPS.map((step, w) => {
  const n = Math.floor(i / Math.abs(step)) % ROOM[w];
  return step < 0 ? ROOM[w] - 1 - n : n;
});
const transformed = (matrix, [x, y, z]) => [0, 1, 2].map((row) =>
  matrix[row][0] * x + matrix[row][1] * y + matrix[row][2] * z + matrix[row][3]);
const inWorld = (at) => transformed(DATA.affine, at);
const clamped = (at) => at.map((n, w) => Math.max(0, Math.min(ROOM[w] - 1, Math.round(n))));

// --- Clusters: 26 neighbours, by flooding

function found(threshold) {
  const map = held.map, seen = new Int32Array(SIZE), [X, Y, Z] = ROOM, all = [];
  for (let first = 0; first < SIZE; first++) {
    if (!(map[first] > threshold) || seen[first]) continue;
    const voxels = [first];
    seen[first] = 1;
    for (let n = 0; n < voxels.length; n++) {
      const [x, y, z] = placeOf(voxels[n]);
      for (let i = Math.max(0, x - 1); i <= Math.min(X - 1, x + 1); i++)
        for (let j = Math.max(0, y - 1); j <= Math.min(Y - 1, y + 1); j++)
          for (let k = Math.max(0, z - 1); k <= Math.min(Z - 1, z + 1); k++) {
            const other = indexOf([i, j, k]);
            if (!(map[other] > threshold) || seen[other]) continue;
            seen[other] = 1;
            voxels.push(other);
          }
    }
    if (voxels.length >= state.least) all.push(measured(voxels.sort((a, b) => a - b), threshold));
  }
  return all.sort((a, b) => b.mass - a.mass);
}

function measured(voxels, threshold) {
  const map = held.map, excess = voxels.reduce((sum, i) => sum + map[i] - threshold, 0);
  const peak = voxels.reduce((best, i) => map[i] > map[best] ? i : best), mass = excess * DATA.voxel;
  const share = (marked) => voxels.filter(marked).length / voxels.length;
  const region = DATA.regions ? commonest(voxels.map((i) => held.regions[i])) : 0;
  return { voxels, mass, peak, volume: voxels.length * DATA.voxel, region, ...compared(mass),
    labelled: held.labels && share((i) => held.labels[i]),
    covered: region && share((i) => held.regions[i] === region) };
}

function commonest(regions) { // the number of most voxels; 0, of no region, only where all are
  const counts = DATA.regions.names.map(() => 0);
  for (const number of regions) counts[number]++;
  const most = Math.max(0, ...counts.slice(1));
  return most ? counts.indexOf(most, 1) : 0;
}

function compared(mass) {
  if (!HEALTHY) return {};
  const counts = HEALTHY.map((shares) => shares[state.share].map((scan) =>
    scan.filter((one) => one >= mass).length));
  const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const healthy = counts.filter((scans) => scans.some((count) => count > 0)).length;
  return { healthy, expected: mean(counts.map(mean)), p: (healthy + 1) / (PEOPLE + 1) };
}

// --- Drawing

const threshold = () => DATA.thresholds[state.share];
const rounded = (mm) => mm.toFixed(0).replace("-0", "0");
const percent = (share) => `${+(100 * share).toPrecision(2)} %`;
const told = (value) => HEALTHY ? percent(10 ** -value) : value.toFixed(2);
const lowest = () => byId("over").value === "clusters" ? threshold() : HEALTHY ? 0 : DATA.map.low;
const highest = () => HEALTHY ? Math.max(4, threshold() + 1) : DATA.thresholds.at(-1);

function colour(i) { // of a voxel of the map, where it has one
  const over = byId("over").value, last = DATA.colours.length - 1;
  if (!(over === "map" ? held.mask[i] : over === "clusters" && numbers[i])) return null;
  const level = Math.max(0, Math.min(1, (held.map[i] - lowest()) / (highest() - lowest())));
  return [...DATA.colours[Math.round(last * level)], 2.55 * byId("opacity").value];
}

function grey(name) { // of each voxel of what lies below
  const values = held.underlays[name];
  if (!values) return (i) => held.mask[i] ? [70, 70, 70, 255] : null;
  const { step } = DATA.underlays[name];
  return (i) => values[i] >= 0 ? [...Array(3).fill(values[i] / step), 255] : null;
}

function voxelIn(world, slice, column, row) { // its index, as it is drawn; -1 outside the volume
  const [h, v] = ACROSS[world], at = [slice, slice, slice];
  [at[h], at[v]] = [ROOM[h] - 1 - column, ROOM[v] - 1 - row];
  return at.every((n, w) => n >= 0 && n < ROOM[w]) ? indexOf(at) : -1;
}

function picture(world, slice, rgba) { // a canvas of a pixel a voxel
  const [width, height] = ACROSS[world].map((w) => ROOM[w]);
  const canvas = element("canvas", { width, height }), context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let n = 0; n < width * height; n++) {
    const pixel = rgba(voxelIn(world, slice, n % width, Math.floor(n / width)));
    if (pixel) image.data.set(pixel, 4 * n);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function outline(context, world, slice, inside, kind, [x, y, width, height]) {
  const [columns, rows] = ACROSS[world].map((w) => ROOM[w]);
  const wide = width / columns, high = height / rows;
  const is = (column, row) => inside[voxelIn(world, slice, column, row)] > 0;
  context.strokeStyle = DATA.lines[kind];
  context.lineWidth = Math.max(1, Math.min(2, 0.3 * wide));
  context.beginPath();
  for (let row = 0; row <= rows; row++)
    for (let column = 0; column <= columns; column++)
      for (const [right, down] of [[1, 0], [0, 1]]) { // from a corner: the sides above and left
        if (is(column, row) === is(column - down, row - right)) continue;
        context.moveTo(x + column * wide, y + row * high);
        context.lineTo(x + (column + right) * wide, y + (row + down) * high);
      }
  context.stroke();
}

function drawPlane(canvas) {
  const world = +canvas.dataset.world, [h, v] = ACROSS[world], slice = state.at[world];
  const scale = window.devicePixelRatio || 1, context = canvas.getContext("2d");
  canvas.width = Math.round(canvas.clientWidth * scale);
  canvas.height = Math.round(canvas.width * ROOM[v] * SIZES[v] / (ROOM[h] * SIZES[h]));
  const box = [0, 0, canvas.width, canvas.height];
  context.drawImage(picture(world, slice, grey(byId("under").value)), ...box);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture(world, slice, colour), ...box);
  for (const kind of ["mask", "labels"])
    if (byId(`show-${kind}`)?.checked) outline(context, world, slice, held[kind], kind, box);
  if (byId("show-cross").checked) cross(context, h, v, scale);
  letter(context, world, scale);
}

function cross(context, h, v, scale) { // open in the middle, for the voxel to be seen
  const { width, height } = context.canvas, gap = 4 * scale + width / ROOM[h];
  const x = (ROOM[h] - state.at[h] - 0.5) * width / ROOM[h];
  const y = (ROOM[v] - state.at[v] - 0.5) * height / ROOM[v];
  context.fillStyle = DATA.lines.cross;
  context.fillRect(0, y, x - gap, scale);
  context.fillRect(x + gap, y, width, scale);
  context.fillRect(x, 0, scale, y - gap);
  context.fillRect(x, y + gap, scale, height);
}

function letter(context, world, scale) {
  const [h, v] = ACROSS[world], { width, height } = context.canvas, edge = 9 * scale;
  context.font = `600 ${12 * scale}px system-ui, sans-serif`;
  [context.fillStyle, context.textAlign, context.textBaseline] = ["#fff", "center", "middle"];
  context.fillText(ENDS[2 * h + 1], edge, height / 2);
  context.fillText(ENDS[2 * h], width - edge, height / 2);
  context.fillText(ENDS[2 * v + 1], width / 2, edge);
  context.fillText(ENDS[2 * v], width / 2, height - edge);
  context.textAlign = "left";
  context.fillText(`${"xyz"[world]} = ${rounded(inWorld(state.at)[world])} mm`, edge / 2, height - edge);
}

function mosaic(canvas, rgba, outlined) {
  const columns = canvas.clientWidth < 500 ? 4 : 8, scale = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  const wide = canvas.width / columns, high = wide * ROOM[1] * SIZES[1] / (ROOM[0] * SIZES[0]);
  canvas.height = high * Math.ceil(8 / columns);
  const context = canvas.getContext("2d");
  for (let n = 0; n < 8; n++) {
    const slice = Math.round(ROOM[2] * (0.12 + 0.11 * n));
    const box = [(n % columns) * wide, Math.floor(n / columns) * high, wide, high];
    context.drawImage(picture(2, slice, rgba), ...box);
    if (outlined) outline(context, 2, slice, outlined, "mask", box);
  }
}

// --- What is told in words and numbers

function element(name, attributes, ...inside) {
  const made = document.createElement(name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  made.append(...inside);
  return made;
}

const COLUMNS = [ // name, value, its text, class
  ["cluster", (one, n) => n + 1, (value) => value],
  ...DATA.regions ? [["region", (one) => one.region, (value, one) => DATA.regions.names[value] +
    (value ? `, ${percent(one.covered)}` : ""), "text"]] : [],
  ["volume mm³", (one) => one.volume, (value) => value.toFixed(0)],
  ["mass", (one) => one.mass, (value) => value.toFixed(value < 10 ? 1 : 0)],
  ["rarest voxel", (one) => held.map[one.peak], told],
  ...HEALTHY ? [
    ["healthy people with as much", (one) => one.healthy, (value) => `${value || "none"} of ${PEOPLE}`],
    ["expected in a healthy scan", (one) => one.expected, (value) => value.toFixed(2), "minor"],
    ["p", (one) => one.p, (value) => value.toPrecision(2)]] : [],
  ...[0, 1, 2].map((row) => [`${"xyz"[row]} mm`, (one) => inWorld(placeOf(one.peak))[row],
    rounded, "minor"]),
  ...DATA.labels ? [["in a label", (one) => one.labelled, percent]] : []];

function tell() {
  const table = document.querySelector("#clusters table"), count = clusters.length;
  const heads = COLUMNS.map(([name, , , kind = ""]) => element("th", { class: kind }, name));
  const cell = (value, text, kind) => element("td", { "data-value": value, class: kind }, text);
  table.tHead.replaceChildren(element("tr", {}, ...heads));
  table.tBodies[0].replaceChildren(...clusters.map((one, n) =>
    element("tr", { tabindex: 0, "data-number": n }, ...COLUMNS.map(([, value, text, kind = ""]) =>
      cell(value(one, n), text(value(one, n), one), kind)))));
  byId("found").textContent = `${count} cluster${count === 1 ? "" : "s"} of ${state.least} voxels or more.` +
    (HEALTHY ? ` A healthy person has ${compared(-1).expected.toFixed(1)} of ${DATA.least} voxels or ` +
      "more in the mean." : "");
  const share = percent(DATA.shares[state.share]);
  if (HEALTHY) {
    const beyond = clusters.filter((one) => one.healthy === 0).length;
    byId("beyond").textContent = `Of the clusters at ${share}, ${beyond || "none"} ` +
      `${beyond > 1 ? "are" : "is"} larger than all of ${PEOPLE} healthy people.`;
    byId("marked").setAttribute("transform", `translate(${DATA.marks[state.share]} 0)`);
  }
  byId("threshold-told").textContent = `${share} of ${HEALTHY ? "healthy voxels" : "this brain"}`;
  byId("least-told").textContent = `${state.least} voxels, ${(state.least * DATA.voxel).toFixed(0)} mm³`;
}

function tellHere() {
  const i = indexOf(state.at), value = held.map[i], region = held.regions?.[i];
  byId("here").textContent = `(${inWorld(state.at).map(rounded).join(", ")}) mm: ` +
    (Number.isNaN(value) ? "outside the mask" :
      HEALTHY ? `${told(value)} of healthy voxels are as novel` : `novelty ${told(value)}`) +
    (region ? `, ${DATA.regions.names[region]}` : "");
  for (const row of document.querySelectorAll("#clusters tbody tr"))
    row.classList.toggle("chosen", +row.dataset.number === numbers[i] - 1);
  if (byId("deviations")) tellDeviations(i);
}

function tellDeviations(i) {
  const signed = (value) => {
    const text = Math.abs(value).toFixed(1);
    return Number.isNaN(value) ? "–" : (text === "0.0" ? "" : value > 0 ? "+" : "−") + text;
  };
  const cluster = numbers[i] ? clusters[numbers[i] - 1].voxels : [];
  const mean = (values) => cluster.reduce((sum, one) => sum + values[one], 0) / cluster.length;
  const rows = Object.entries(held.deviations).map(([name, values]) =>
    [name, signed(values[i]), signed(mean(values))]);
  byId("deviations").replaceChildren(...[["", "here", "cluster"], ...rows].map((texts) =>
    element("tr", {}, ...texts.map((text) => element("td", {}, text)))));
}

// --- The reader's part

const planes = [...document.querySelectorAll("canvas[data-world]")];

function draw() {
  planes.forEach(drawPlane);
  document.querySelector(".scale").classList.toggle("without", byId("over").value === "none");
  byId("low").textContent = told(lowest());
  byId("high").textContent = HEALTHY ? `${told(highest())} of healthy voxels are as novel` :
    `novelty ${told(highest())} and more`;
  tellHere();
}

function layOut() {
  planes[0].parentNode.style.gridTemplateColumns = planes.map(({ dataset }) => ACROSS[dataset.world][0])
    .map((across) => `minmax(0,${ROOM[across] * SIZES[across]}fr)`).join(" ");
  draw();
  mosaic(byId("mask-mosaic"), grey(byId("under").options[0].value), held.mask);
  if (byId("residual-mosaic")) mosaic(byId("residual-mosaic"), grey("residual"), null);
}

function find() {
  clusters = found(threshold());
  numbers = new Int32Array(SIZE);
  clusters.forEach((one, n) => one.voxels.forEach((i) => { numbers[i] = n + 1; }));
  tell();
}

function go(at) {
  state.at = clamped(at);
  draw();
  const place = inWorld(state.at).map((mm) => +mm.toFixed(1)).join();
  const least = state.least === DATA.least ? "" : `&min=${state.least}`;
  history.replaceState(null, "", `#thr=${DATA.shares[state.share]}&at=${place}${least}`);
}

function readAddress() {
  const told = new URLSearchParams(location.hash.slice(1)), share = Number(told.get("thr"));
  if (share > 0) {
    const away = DATA.shares.map((one) => Math.abs(Math.log(one / share)));
    state.share = away.indexOf(Math.min(...away));
  }
  if (Number(told.get("min")) >= DATA.least) state.least = Math.min(100, Math.round(told.get("min")));
  byId("threshold").value = state.share;
  byId("least").value = state.least;
  find();
  const at = (told.get("at") || "").split(",").map(Number);
  if (at.length === 3 && at.every(Number.isFinite)) state.at = clamped(transformed(DATA.inverse, at));
  else if (clusters.length) state.at = placeOf(clusters[0].peak);
}

function listen() {
  const pick = (canvas, event) => {
    const box = canvas.getBoundingClientRect(), [h, v] = ACROSS[canvas.dataset.world];
    const at = [...state.at];
    at[h] = ROOM[h] - 1 - Math.floor((event.clientX - box.left) / box.width * ROOM[h]);
    at[v] = ROOM[v] - 1 - Math.floor((event.clientY - box.top) / box.height * ROOM[v]);
    go(at);
  };
  const step = (event, world, by) => {
    event.preventDefault();
    go(state.at.map((n, w) => w === world ? n + by : n));
  };
  for (const canvas of planes) {
    const world = +canvas.dataset.world, [h, v] = ACROSS[world];
    const keys = { ArrowLeft: [h, 1], ArrowRight: [h, -1], ArrowUp: [v, 1], ArrowDown: [v, -1],
      PageUp: [world, 1], PageDown: [world, -1] };
    canvas.addEventListener("pointerdown", (event) => pick(canvas, event));
    canvas.addEventListener("pointermove", (event) => event.buttons && pick(canvas, event));
    canvas.addEventListener("wheel", (event) => step(event, world, event.deltaY < 0 ? 1 : -1));
    canvas.addEventListener("keydown", (event) => event.key in keys && step(event, ...keys[event.key]));
  }
  for (const [id, key] of [["threshold", "share"], ["least", "least"]])
    byId(id).addEventListener("input", (event) => {
      state[key] = +event.target.value;
      find();
      go(state.at);
    });
  for (const id of ["opacity", "under", "over", "show-mask", "show-labels", "show-cross"])
    byId(id)?.addEventListener("input", draw);
  const rows = document.querySelector("#clusters tbody");
  const choose = (row) => go(placeOf(clusters[row.dataset.number].peak));
  rows.addEventListener("click", (event) => choose(event.target.closest("tr")));
  rows.addEventListener("keydown", (event) => event.key === "Enter" && choose(event.target));
  addEventListener("resize", layOut);
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return;
    readAddress();
    draw();
  });
}

async function start() {
  await unpack();
  const colours = DATA.colours.map((one) => `rgb(${one})`).join();
  document.querySelector(".scale i").style.background = `linear-gradient(90deg, ${colours})`;
  readAddress();
  layOut();
  listen();
  document.body.dataset.state = "ready";
}

start().catch((error) => {
  byId("failed").textContent = `The pictures cannot be drawn in this browser (${error.message}); ` +
    "use a Chromium, Firefox or Safari of 2023 or later.";
  byId("failed").hidden = false;
});
