"use strict";
// A slider per direction that chooses the enlarged picture of every row. The page is complete without it.
(() => {
  document.documentElement.classList.add("js");
  const STEP_MILLISECONDS = 350;

  for (const slider of document.querySelectorAll(".slider")) {
    const input = slider.querySelector("input"), output = slider.querySelector("output"), play = slider.querySelector(".play");
    const table = slider.parentElement.querySelector("table.edits");
    const heads = [...table.tHead.rows[0].cells];
    const first = heads.findIndex((head) => head.classList.contains("now")) + 1;
    const labels = heads.slice(first).filter((head) => !head.classList.contains("still")).map((head) => head.textContent);
    const rows = [...table.querySelectorAll("tbody tr")].map((row) => {
      const now = row.querySelector(".now");
      const cells = [];
      for (let cell = now.nextElementSibling; cell && !cell.classList.contains("still"); cell = cell.nextElementSibling) cells.push(cell);
      return { now, cells };
    });

    function show(place) {
      input.value = String(place);
      input.setAttribute("aria-valuetext", labels[place]);
      output.textContent = labels[place];
      heads.slice(first).forEach((head, index) => head.classList.toggle("at", index === place));
      for (const { now, cells } of rows) {
        cells.forEach((cell, index) => cell.classList.toggle("at", index === place));
        now.replaceChildren(...[...cells[place].childNodes].map((node) => node.cloneNode(true)));
      }
    }

    let timer = 0;
    function stop() {
      window.clearInterval(timer);
      timer = 0;
      play.textContent = "play";
    }
    play.addEventListener("click", () => {
      if (timer) return stop();
      let up = true;
      play.textContent = "stop";
      timer = window.setInterval(() => {
        const place = Number(input.value), last = labels.length - 1;
        if (place >= last) up = false;
        if (place <= 0) up = true;
        show(last === 0 ? 0 : place + (up ? 1 : -1));
      }, STEP_MILLISECONDS);
    });
    input.addEventListener("input", () => { stop(); show(Number(input.value)); });
    table.addEventListener("click", (event) => {
      const cell = event.target.closest("tbody td:not(.now):not(.still), thead th:not(.still)");
      if (!cell) return;
      const place = cell.parentElement.parentElement === table.tHead
        ? heads.indexOf(cell) - first
        : rows.find(({ cells }) => cells.includes(cell))?.cells.indexOf(cell) ?? -1;
      if (place >= 0) { stop(); show(place); }
    });
    show(Number(input.value));
  }
})();
