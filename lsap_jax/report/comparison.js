"use strict";
// Sorting the table and enlarging pictures of a comparison. The page is complete without it.
(() => {
  const find = (id) => document.getElementById(id);
  const table = find("table"), zoom = find("zoom"), grid = find("pictures");
  document.documentElement.classList.add("js");

  if (table) {
    const body = table.tBodies[0], heads = [...table.querySelectorAll("th[aria-sort]")];
    const order = [...body.rows];
    const value = (row, index) => index === 0 ? order.indexOf(row) : Number.parseFloat(row.cells[index].dataset.value);
    heads.forEach((head, index) => head.firstElementChild.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", other !== head ? "none" : up ? "ascending" : "descending"));
      body.replaceChildren(...[...body.rows].sort((a, b) => {
        const x = value(a, index), y = value(b, index);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // absent values last in both directions
        return x === y ? order.indexOf(a) - order.indexOf(b) : (up ? 1 : -1) * (x < y ? -1 : 1);
      }));
    }));
  }

  if (!grid || !zoom) return;
  let row = 0, column = 0;
  const cells = [...grid.tBodies[0].rows].map((line) => [...line.cells]);
  const figure = (image, caption) => {
    const found = document.createElement("figure"), below = document.createElement("figcaption");
    if (image) found.append(image.cloneNode());
    below.textContent = caption;
    found.append(below);
    return found;
  };
  function show(toRow, toColumn) {
    if (!cells[toRow] || toColumn < 1 || toColumn >= cells[toRow].length) return;
    [row, column] = [toRow, toColumn];
    const target = cells[row][0], cell = cells[row][column];
    const preset = grid.tHead.rows[0].cells[column].textContent;
    zoom.querySelector("h3").textContent = target.querySelector(".name").textContent;
    zoom.querySelector(".pair").replaceChildren(
      figure(target.querySelector("img"), "target"), figure(cell.querySelector("img"), `${preset}: ${cell.querySelector("p").textContent}`));
    if (!zoom.open) zoom.showModal();
  }
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("button")?.closest("td, th");
    if (cell) show(cell.parentElement.sectionRowIndex, Math.max(cell.cellIndex, 1));
  });
  const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  zoom.addEventListener("keydown", (event) => {
    const by = keys[event.key];
    if (!by) return;
    event.preventDefault();
    show(row + by[0], column + by[1]);
  });
  zoom.addEventListener("click", (event) => {
    const { step } = event.target.dataset;
    if (event.target === zoom || step === "0") zoom.close();
    else if (step) show(row, column + Number(step));
  });
})();
