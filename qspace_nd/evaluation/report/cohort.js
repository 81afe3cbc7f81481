// The table of all people: sorted by a click on a heading.

const table = document.getElementById("people");

function valueOf(row, column) {
  const { textContent, dataset } = row.cells[column];
  return dataset.value === undefined ? textContent.trim() : Number(dataset.value);
}

function sortBy(head) {
  const column = head.cellIndex, was = head.getAttribute("aria-sort");
  const falling = was === "none" ? column > 2 : was === "ascending"; // figures: the highest first
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [one, other] = [valueOf(a, column), valueOf(b, column)];
    return (falling ? -1 : 1) * (typeof one === "string" ? one.localeCompare(other) : one - other);
  });
  table.tBodies[0].append(...rows);
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
}

for (const button of table.querySelectorAll("th button"))
  button.addEventListener("click", () => sortBy(button.parentNode));
document.body.dataset.state = "ready";
