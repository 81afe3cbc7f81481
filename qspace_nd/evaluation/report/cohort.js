// The table of all people: sorted by a click on a heading; a picture of each from above.

const DATA = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("people");
const percent = (share) => `${+(100 * share).toPrecision(2)} %`;
const COLUMNS = [
  ["", null],
  ["name", (row) => row.name, (name) => name],
  ["group", (row) => row.group, (group) => group],
  ["above", (row) => row.above, percent],
  ["clusters", (row) => row.clusters, (count) => count],
  ["larger than all of the healthy", (row) => row.beyond, (count) => count || "none"],
  ["largest mass", (row) => row.mass, (mass) => mass.toFixed(0)],
  ["healthy people with as much", (row) => row.healthy, (count, row) => `${count} of ${row.people}`],
];
let order = { column: 2, falling: true };

function thumbnail({ rows, columns, aspect, data }) {
  const canvas = document.createElement("canvas"), bytes = atob(data);
  [canvas.width, canvas.height, canvas.className] = [columns, rows, "thumbnail"];
  canvas.style.aspectRatio = columns / (rows * aspect);
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let n = 0; n < rows * columns; n++) {
    const level = bytes.charCodeAt(n), bright = level ? 40 + 0.84 * level : 0;
    const warm = Math.max(0, (level - 128) / 127); // from half of the scale on, towards yellow
    image.data.set([bright, bright * (1 - 0.15 * warm), bright * (1 - 0.9 * warm), 255], 4 * n);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function cell(row, [, value, text]) {
  const made = document.createElement("td");
  if (!value) made.append(thumbnail(row.thumbnail));
  else if (value(row) === undefined || value(row) === null) made.textContent = "–";
  else if (value(row) === row.name && row.page) {
    const link = document.createElement("a");
    [link.href, link.textContent] = [encodeURIComponent(row.page), row.name];
    made.append(link);
  } else made.textContent = text(value(row), row);
  if (value && typeof value(row) === "string") made.className = "text";
  return made;
}

function fill() {
  const value = COLUMNS[order.column][1], sense = order.falling ? -1 : 1;
  const rows = [...DATA.rows].sort((a, b) => {
    const [one, other] = [value(a) ?? -1, value(b) ?? -1];
    return sense * (typeof one === "string" ? one.localeCompare(other) : one - other);
  });
  table.tBodies[0].replaceChildren(...rows.map((row) => {
    const made = document.createElement("tr");
    made.append(...COLUMNS.map((column) => cell(row, column)));
    return made;
  }));
  [...table.tHead.rows[0].cells].forEach((head, n) => {
    head.setAttribute("aria-sort", n !== order.column ? "none" : order.falling ? "descending" : "ascending");
  });
}

const heads = document.createElement("tr");
COLUMNS.forEach(([name, value], n) => {
  const head = document.createElement("th"), button = document.createElement("button");
  button.textContent = name;
  button.addEventListener("click", () => {
    order = { column: n, falling: n === order.column ? !order.falling : n > 2 };
    fill();
  });
  if (value) head.append(button);
  if (n === 1 || n === 2) head.className = "text";
  heads.append(head);
});
table.tHead.append(heads);
fill();
document.body.dataset.state = "ready";
