// One person's map: three planes, clusters of the volume above a threshold, and how many healthy
// people have clusters as large. Volumes lie in the page; nothing is fetched.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const HEALTHY = DATA.healthy, PEOPLE = HEALTHY ? HEALTHY.names.length : 0;
const ROOM = [0, 1, 2].map((world) => DATA.shape[DATA.axes[world][0]]); // voxels along x, y, z
const STORED = [DATA.shape[1] * DATA.shape[2], DATA.shape[2], 1]; // steps in memory, C order
const SIZE = DATA.shape.reduce((a, b) => a * b);
const COUNTED = [0, 1, 2].map((w) => Math.hypot(...[0, 1, 2].map((row) => DATA.affine[row][w]))); // mm
const ACROSS = [[1, 2], [0, 2], [0, 1]]; // of the plane across x, y, z: to the right and upwards
const ENDS = ["L", "R", "P", "A", "I", "S"];
const COLOURS = [[153, 40, 110], [214, 72, 66], [246, 125, 21], [252, 190, 40], [252, 255, 164]];
const MASK = "#56b4e9", LABEL = "#00c08b", CROSS = "#9bd3f5";
const QUANTITIES = { b0: "b=0", md: "mean diffusivity", fa: "anisotropy" };
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
  if (DATA.residual) held.residual = await volume(DATA.residual);
  for (const kind of ["underlays", "deviations"])
    for (const name in DATA[kind]) held[kind][name] = await volume(DATA[kind][name]);
}

// --- Places: voxels are counted along x, y, z of the world, and stored otherwise

const ORIGIN = DATA.axes.reduce((sum, [axis, sense]) =>
  sum + (sense < 0 ? (DATA.shape[axis] - 1) * STORED[axis] : 0), 0);
const STEPS = DATA.axes.map(([axis, sense]) => sense * STORED[axis]);
const indexOf = (at) => ORIGIN + at[0] * STEPS[0] + at[1] * STEPS[1] + at[2] * STEPS[2];
const storedAt = (i) => [Math.floor(i / STORED[0]), Math.floor(i / STORED[1]) % DATA.shape[1],
  i % DATA.shape[2]];
const counted = (stored) => DATA.axes.map(([axis, sense]) =>
  sense < 0 ? DATA.shape[axis] - 1 - stored[axis] : stored[axis]);
const transformed = (matrix, [x, y, z]) => [0, 1, 2].map((row) =>
  matrix[row][0] * x + matrix[row][1] * y + matrix[row][2] * z + matrix[row][3]);
const inWorld = (at) => transformed(DATA.affine, at);
const clamped = (at) => at.map((n, w) => Math.max(0, Math.min(ROOM[w] - 1, Math.round(n))));

// --- Clusters: 26 neighbours, by flooding

function found(threshold) {
  const map = held.map, seen = new Int32Array(SIZE), [X, Y, Z] = DATA.shape, all = [];
  for (let first = 0; first < SIZE; first++) {
    if (!(map[first] > threshold) || seen[first]) continue;
    const voxels = [first];
    seen[first] = 1;
    for (let n = 0; n < voxels.length; n++) {
      const [x, y, z] = storedAt(voxels[n]);
      for (let i = Math.max(0, x - 1); i <= Math.min(X - 1, x + 1); i++)
        for (let j = Math.max(0, y - 1); j <= Math.min(Y - 1, y + 1); j++)
          for (let k = Math.max(0, z - 1); k <= Math.min(Z - 1, z + 1); k++) {
            const other = i * STORED[0] + j * STORED[1] + k;
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
  let mass = 0, peak = voxels[0], labelled = 0;
  for (const i of voxels) {
    mass += held.map[i] - threshold;
    if (held.map[i] > held.map[peak]) peak = i;
    if (held.labels && held.labels[i]) labelled++;
  }
  mass *= DATA.voxel;
  return { voxels, mass, peak, volume: voxels.length * DATA.voxel, labelled: labelled / voxels.length,
    ...compared(mass) };
}

function compared(mass) {
  if (!HEALTHY) return {};
  const counts = HEALTHY.masses.map((shares) => shares[state.share].map((scan) =>
    scan.filter((one) => one >= mass).length));
  const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const healthy = counts.filter((scans) => scans.some((count) => count > 0)).length;
  return { healthy, expected: mean(counts.map(mean)), p: (healthy + 1) / (PEOPLE + 1) };
}

// --- Drawing

const threshold = () => DATA.thresholds[state.share];
const rounded = (mm) => mm.toFixed(0).replace("-0", "0");
const percent = (share) => `${+(100 * share).toPrecision(2)} %`;
const shareOf = (value) => HEALTHY ? Math.pow(10, -value) : NaN;
const top = () => HEALTHY ? Math.max(4, threshold() + 1) : DATA.thresholds.at(-1);

function colour(level) {
  const place = Math.max(0, Math.min(1, level)) * (COLOURS.length - 1), n = Math.min(3, Math.floor(place));
  return COLOURS[n].map((one, c) => one + (place - n) * (COLOURS[n + 1][c] - one));
}

function shown(i) { // the level of a voxel in colours, or NaN
  const over = byId("over").value, map = held.map[i];
  if (over === "map") return (map - lowest()) / (top() - lowest());
  return over === "clusters" && numbers[i] ? (map - threshold()) / (top() - threshold()) : NaN;
}

const lowest = () => byId("over").value === "clusters" ? threshold() : HEALTHY ? 0 : DATA.map.low;

function picture(world, slice, rgba) { // a canvas of a pixel a voxel
  const [h, v] = ACROSS[world], at = [slice, slice, slice], canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [ROOM[h], ROOM[v]];
  const context = canvas.getContext("2d"), image = context.createImageData(ROOM[h], ROOM[v]);
  for (let row = 0, n = 0; row < ROOM[v]; row++)
    for (let column = 0; column < ROOM[h]; column++, n += 4) {
      [at[h], at[v]] = [ROOM[h] - 1 - column, ROOM[v] - 1 - row];
      const pixel = rgba(indexOf(at));
      if (pixel) image.data.set(pixel, n);
    }
  context.putImageData(image, 0, 0);
  return canvas;
}

function outline(context, world, slice, inside, style, [x, y, width, height]) {
  const [h, v] = ACROSS[world], at = [slice, slice, slice];
  const [wide, high] = [width / ROOM[h], height / ROOM[v]];
  const is = (column, row) => {
    [at[h], at[v]] = [ROOM[h] - 1 - column, ROOM[v] - 1 - row];
    return at[h] >= 0 && at[v] >= 0 && at[h] < ROOM[h] && at[v] < ROOM[v] && inside[indexOf(at)] > 0;
  };
  const line = (a, b, c, d) => {
    context.moveTo(x + a * wide, y + b * high);
    context.lineTo(x + c * wide, y + d * high);
  };
  [context.strokeStyle, context.lineWidth] = [style, Math.max(1, Math.min(2, 0.3 * wide))];
  context.beginPath();
  for (let row = 0; row <= ROOM[v]; row++)
    for (let column = 0; column <= ROOM[h]; column++) {
      const own = is(column, row);
      if (own !== is(column - 1, row)) line(column, row, column, row + 1);
      if (own !== is(column, row - 1)) line(column, row, column + 1, row);
    }
  context.stroke();
}

function underlay(name) { // the grey of each voxel
  const told = name === "residual" ? DATA.residual : DATA.underlays[name];
  if (!told) return (i) => held.mask[i] ? [70, 70, 70, 255] : null;
  const values = name === "residual" ? held.residual : held.underlays[name];
  return (i) => Number.isNaN(values[i]) ? null : [...Array(3).fill(values[i] / told.step), 255];
}

function drawPlane(canvas) {
  const world = +canvas.dataset.world, [h, v] = ACROSS[world], slice = state.at[world];
  const scale = window.devicePixelRatio || 1, context = canvas.getContext("2d");
  canvas.width = Math.round(canvas.clientWidth * scale);
  canvas.height = Math.round(canvas.width * ROOM[v] * COUNTED[v] / (ROOM[h] * COUNTED[h]));
  const box = [0, 0, canvas.width, canvas.height], alpha = 2.55 * byId("opacity").value;
  context.drawImage(picture(world, slice, underlay(byId("under").value)), ...box);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture(world, slice, (i) => {
    const level = shown(i);
    return Number.isNaN(level) ? null : [...colour(level), alpha];
  }), ...box);
  if (byId("show-mask").checked) outline(context, world, slice, held.mask, MASK, box);
  if (held.labels && byId("show-labels").checked) outline(context, world, slice, held.labels, LABEL, box);
  const wide = canvas.width / ROOM[h], high = canvas.height / ROOM[v];
  const [x, y] = [(ROOM[h] - state.at[h] - 0.5) * wide, (ROOM[v] - state.at[v] - 0.5) * high];
  if (byId("show-cross").checked) cross(context, x, y, scale, wide);
  letter(context, world, scale);
}

function cross(context, x, y, scale, wide) {
  const gap = 4 * scale + wide, { width, height } = context.canvas;
  context.fillStyle = CROSS;
  context.fillRect(0, y, x - gap, scale);
  context.fillRect(x + gap, y, width, scale);
  context.fillRect(x, 0, scale, y - gap);
  context.fillRect(x, y + gap, scale, height);
}

function letter(context, world, scale) {
  const [h, v] = ACROSS[world], { width, height } = context.canvas, edge = 9 * scale;
  context.font = `600 ${12 * scale}px system-ui, sans-serif`;
  [context.fillStyle, context.textAlign, context.textBaseline] = ["#fff", "center", "middle"];
  for (const [text, x, y] of [[ENDS[2 * h + 1], edge, height / 2], [ENDS[2 * h], width - edge, height / 2],
    [ENDS[2 * v + 1], width / 2, edge], [ENDS[2 * v], width / 2, height - edge]]) context.fillText(text, x, y);
  context.textAlign = "left";
  context.fillText(`${"xyz"[world]} = ${rounded(inWorld(state.at)[world])} mm`, edge / 2, height - edge);
}

function mosaic(canvas, rgba, outlined) {
  const columns = canvas.clientWidth < 500 ? 4 : 8, scale = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  const wide = canvas.width / columns, high = wide * ROOM[1] * COUNTED[1] / (ROOM[0] * COUNTED[0]);
  canvas.height = high * Math.ceil(8 / columns);
  const context = canvas.getContext("2d");
  for (let n = 0; n < 8; n++) {
    const slice = Math.round(ROOM[2] * (0.12 + 0.11 * n));
    const box = [(n % columns) * wide, Math.floor(n / columns) * high, wide, high];
    context.drawImage(picture(2, slice, rgba), ...box);
    if (outlined) outline(context, 2, slice, outlined, MASK, box);
  }
}

// --- What is told in words and numbers

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  return made;
}

const COLUMNS = [
  ["cluster", (one, n) => n + 1, (value) => value],
  ["volume mm³", (one) => one.volume, (value) => value.toFixed(0)],
  ["mass", (one) => one.mass, (value) => value < 10 ? value.toFixed(1) : value.toFixed(0)],
  ["rarest voxel", (one) => held.map[one.peak], (value) => HEALTHY ? percent(shareOf(value)) : value.toFixed(2)],
  ...HEALTHY ? [
    ["healthy people with as much", (one) => one.healthy, (value) => `${value || "none"} of ${PEOPLE}`],
    ["expected in a healthy scan", (one) => one.expected, (value) => value.toFixed(2), "minor"],
    ["p", (one) => one.p, (value) => value.toPrecision(2)]] : [],
  ...[0, 1, 2].map((row) => [`${"xyz"[row]} mm`, (one) => inWorld(counted(storedAt(one.peak)))[row],
    rounded, "minor"]),
  ...DATA.labels ? [["in a label", (one) => one.labelled, percent]] : []];

function tell() {
  const above = DATA.curve.indexOf(0.01), least = state.least;
  const table = document.querySelector("#clusters table"), beyond = clusters.filter((one) => one.healthy === 0);
  const heads = document.createElement("tr"), rows = document.createDocumentFragment();
  for (const [name, , , kind] of COLUMNS) heads.append(element("th", name, { class: kind || "" }));
  table.tHead.replaceChildren(heads);
  clusters.forEach((one, n) => {
    const row = element("tr", "", { tabindex: 0, "data-number": n });
    for (const [, value, text, kind] of COLUMNS)
      row.append(element("td", text(value(one, n)), { "data-value": value(one, n), class: kind || "" }));
    rows.append(row);
  });
  table.tBodies[0].replaceChildren(rows);
  byId("found").textContent = `${clusters.length} cluster${clusters.length === 1 ? "" : "s"} of ${least} voxels ` +
    (HEALTHY ? `or more. A healthy person has ${compared(-1).expected.toFixed(1)} of ${DATA.least} voxels or more ` +
      "in the mean." : "or more.");
  const share = percent(DATA.shares[state.share]);
  if (HEALTHY) {
    const theirs = HEALTHY.above.map((one) => one[above]);
    byId("verdict").textContent = `${percent(DATA.above[above])} of this brain is as novel as the most novel ` +
      `1 % of healthy voxels (healthy people: ${percent(Math.min(...theirs))} to ` +
      `${percent(Math.max(...theirs))}). Of the clusters at ${share}, ${beyond.length || "none"} ` +
      `${beyond.length > 1 ? "are" : "is"} larger than all of ${PEOPLE} healthy people.`;
  }
  byId("threshold-told").textContent = `${share} of ${HEALTHY ? "healthy voxels" : "this brain"}`;
  byId("least-told").textContent = `${least} voxels, ${(least * DATA.voxel).toFixed(0)} mm³`;
}

function tellHere() {
  const i = indexOf(state.at), place = inWorld(state.at).map(rounded);
  const value = held.map[i];
  byId("here").textContent = `(${place.join(", ")}) mm: ` + (Number.isNaN(value) ? "outside the mask" :
    HEALTHY ? `${percent(shareOf(value))} of healthy voxels are as novel` : `novelty ${value.toFixed(2)}`);
  for (const row of document.querySelectorAll("#clusters tbody tr"))
    row.classList.toggle("chosen", +row.dataset.number === numbers[i] - 1);
  if (byId("deviations")) tellDeviations(i);
}

function tellDeviations(i) {
  const told = (value) => Number.isNaN(value) ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(1);
  const row = (...texts) => {
    const made = element("tr", "");
    made.append(...texts.map((text) => element("td", text)));
    return made;
  };
  const cluster = numbers[i] ? clusters[numbers[i] - 1].voxels : [];
  const rows = Object.entries(held.deviations).map(([name, values]) => row(QUANTITIES[name] ||
    name.replace(/^b(\d+)$/, "mean at b=$1"), told(values[i]),
    told(cluster.reduce((sum, one) => sum + values[one], 0) / cluster.length)));
  byId("deviations").replaceChildren(row("", "here", "cluster"), ...rows);
}

function tellColours() {
  const told = (value) => HEALTHY ? percent(shareOf(value)) : value.toFixed(2);
  document.querySelector(".scale").classList.toggle("without", byId("over").value === "none");
  byId("low").textContent = told(lowest());
  byId("high").textContent = HEALTHY ? `${told(top())} of healthy voxels are as novel` : `novelty ${told(top())} and more`;
}

function drawCurves() {
  const card = byId("curves");
  if (!card) return;
  const width = Math.min(760, card.clientWidth - 30), [height, left, bottom, right] = [340, 64, 44, 26];
  const svg = (name, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    made.textContent = text;
    return made;
  };
  const x = (share) => left + (width - left - right) * -Math.log10(share) / 4;
  const y = (share) => 10 + (height - bottom - 10) * Math.min(4.5, -Math.log10(share || 1e-9)) / 4.5;
  const line = (above, kind) => svg("polyline", { class: kind,
    points: above.map((share, n) => `${x(DATA.curve[n])},${y(share)}`).join(" ") });
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const share of [1, 0.1, 0.01, 0.001, 0.0001])
    drawn.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(share), y2: y(share) }),
      svg("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, percent(share)),
      svg("text", { x: x(share), y: height - bottom + 18, "text-anchor": "middle" }, percent(share)));
  const at = DATA.shares[state.share];
  drawn.append(...HEALTHY.above.map((above) => line(above, "healthy")), line(DATA.above, "own"),
    svg("line", { class: "threshold", x1: x(at), x2: x(at), y1: 10, y2: height - bottom }),
    svg("text", { x: x(at) + 5, y: 22 }, "threshold"),
    svg("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, "as novel as this share of healthy voxels"),
    svg("text", { transform: `translate(13 ${height / 2}) rotate(-90)`, "text-anchor": "middle" }, "share of the brain"));
  const names = [["own", DATA.name], ["healthy", `each of ${PEOPLE} healthy people`]];
  names.forEach(([kind, text], n) => drawn.append(
    svg("line", { class: kind, x1: left + 16, x2: left + 44, y1: height - 80 + 18 * n, y2: height - 80 + 18 * n }),
    svg("text", { x: left + 50, y: height - 76 + 18 * n }, text)));
  card.replaceChildren(drawn);
}

// --- The reader's part

const planes = [...document.querySelectorAll("canvas[data-world]")];

function draw() {
  planes.forEach(drawPlane);
  tellColours();
  tellHere();
}

function layOut() {
  const widths = planes.map((one) => ROOM[ACROSS[one.dataset.world][0]] * COUNTED[ACROSS[one.dataset.world][0]]);
  document.querySelector(".planes").style.gridTemplateColumns = widths.map((one) => `minmax(0,${one}fr)`).join(" ");
  draw();
  drawCurves();
  mosaic(byId("mask-mosaic"), underlay(Object.keys(DATA.underlays)[0]), held.mask);
  if (DATA.residual) mosaic(byId("residual-mosaic"), underlay("residual"), null);
}

function find() {
  clusters = found(threshold());
  numbers = new Int32Array(SIZE);
  clusters.forEach((one, n) => one.voxels.forEach((i) => { numbers[i] = n + 1; }));
  tell();
  drawCurves();
}

function go(at) {
  state.at = clamped(at);
  draw();
  remember();
}

function remember() {
  const place = inWorld(state.at).map((mm) => +mm.toFixed(1)), more = state.least === DATA.least ? "" : `&min=${state.least}`;
  history.replaceState(null, "", `#thr=${DATA.shares[state.share]}&at=${place.join(",")}${more}`);
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
  else if (clusters.length) state.at = counted(storedAt(clusters[0].peak));
}

function listen() {
  const pick = (canvas, event) => {
    const box = canvas.getBoundingClientRect(), [h, v] = ACROSS[canvas.dataset.world], at = [...state.at];
    at[h] = ROOM[h] - 1 - Math.floor((event.clientX - box.left) / box.width * ROOM[h]);
    at[v] = ROOM[v] - 1 - Math.floor((event.clientY - box.top) / box.height * ROOM[v]);
    go(at);
  };
  const step = (world, by) => go(state.at.map((n, w) => w === world ? n + by : n));
  for (const canvas of planes) {
    const world = +canvas.dataset.world, [h, v] = ACROSS[world];
    const keys = { ArrowLeft: [h, 1], ArrowRight: [h, -1], ArrowUp: [v, 1], ArrowDown: [v, -1],
      PageUp: [world, 1], PageDown: [world, -1] };
    canvas.addEventListener("pointerdown", (event) => pick(canvas, event));
    canvas.addEventListener("pointermove", (event) => event.buttons && pick(canvas, event));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      step(world, event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      event.preventDefault();
      step(...keys[event.key]);
    });
  }
  byId("threshold").addEventListener("input", (event) => { state.share = +event.target.value; find(); go(state.at); });
  byId("least").addEventListener("input", (event) => { state.least = +event.target.value; find(); go(state.at); });
  for (const id of ["opacity", "under", "over", "show-mask", "show-labels", "show-cross"])
    byId(id).addEventListener("input", draw);
  const rows = document.querySelector("#clusters tbody");
  const choose = (event) => {
    const row = event.target.closest("tr");
    if (row) go(counted(storedAt(clusters[row.dataset.number].peak)));
  };
  rows.addEventListener("click", choose);
  rows.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(event); });
  addEventListener("resize", layOut);
  addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); draw(); } });
}

async function start() {
  await unpack();
  for (const name of [...Object.keys(DATA.underlays), ...DATA.residual ? ["residual"] : []])
    byId("under").append(element("option", name));
  byId("labels-asked").hidden = !DATA.labels;
  byId("threshold").max = DATA.shares.length - 1;
  readAddress();
  layOut();
  listen();
  document.body.dataset.state = "ready";
}

start().catch((error) => {
  byId("failed").textContent = `The pictures cannot be drawn in this browser (${error.message}); use a ` +
    "Chromium, Firefox or Safari of 2023 or later.";
  byId("failed").hidden = false;
});
