"use strict";
// Sorting, filtering and enlarging for a report. The page is complete without it: every row and picture stands in the HTML.
(() => {
  const PAGE = 100, FIRST_CARDS = 24;
  const find = (id) => document.getElementById(id);
  const table = find("table");
  document.documentElement.classList.add("js");
  if (!table) return;

  const gallery = find("gallery"), zoom = find("zoom"), body = table.tBodies[0];
  const filter = find("filter"), select = find("sort"), direction = find("direction");
  const heads = [...table.querySelectorAll("th[aria-sort]")];
  const names = heads.slice(1).map((head) => head.textContent.trim().toLowerCase());
  const cards = new Map([...gallery.children].map((card) => [Number(card.dataset.row), card]));
  const natural = new Intl.Collator("en", { numeric: true });
  const items = [...body.rows].map((row, index) => ({
    row, card: cards.get(index), id: row.cells[0].textContent,
    values: row.dataset.values.split(" ").filter(Boolean).map((text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text))),
    text: [row.cells[0].textContent, row.querySelector("td.remarks")?.textContent ?? ""].join(" ").toLowerCase(),
  }));
  const state = { column: -1, up: true, page: 0, cards: FIRST_CARDS, shown: items };

  function compare(a, b) {
    const sign = state.up ? 1 : -1;
    if (state.column < 0) return sign * natural.compare(a.id, b.id);
    const x = a.values[state.column], y = b.values[state.column];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // absent values last in both directions
    return x === y ? natural.compare(a.id, b.id) : sign * (x < y ? -1 : 1);
  }

  const relations = { "<": (x, y) => x < y, "<=": (x, y) => x <= y, ">": (x, y) => x > y, ">=": (x, y) => x >= y };
  function condition(token) {
    const parts = /^(.+?)(<=|>=|<|>)([-+.\de]+)$/.exec(token);
    const column = parts ? names.indexOf(parts[1]) : -1;
    if (column < 0) return (item) => item.text.includes(token);
    return (item) => relations[parts[2]](item.values[column], Number(parts[3]));
  }

  function update() {
    const conditions = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map(condition);
    state.shown = items.filter((item) => conditions.every((holds) => holds(item))).sort(compare);
    render();
  }

  function render() {
    const { shown } = state;
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const start = state.page * PAGE;
    body.replaceChildren(...shown.slice(start, start + PAGE).map((item) => item.row));

    const withCard = shown.filter((item) => item.card);
    withCard.forEach((item, index) => { item.card.hidden = index >= state.cards; });
    gallery.replaceChildren(...withCard.map((item) => item.card));
    const more = find("more");
    more.hidden = withCard.length <= state.cards;
    more.textContent = `Show all ${withCard.length} pictures`;

    heads.forEach((head, index) => head.setAttribute("aria-sort", index - 1 !== state.column ? "none" : state.up ? "ascending" : "descending"));
    select.value = String(state.column);
    direction.textContent = state.up ? "↑" : "↓";
    direction.setAttribute("aria-label", `Direction of sorting: ${state.up ? "ascending" : "descending"}`);
    find("matches").textContent = shown.length === items.length ? `${items.length.toLocaleString("en")} image${items.length === 1 ? "" : "s"}` :
      `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} images`;
    document.querySelector(".pages").hidden = pages < 2;
    find("page").textContent = `${(start + 1).toLocaleString("en")}–${Math.min(start + PAGE, shown.length).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    find("back").disabled = state.page === 0;
    find("forth").disabled = state.page === pages - 1;
  }

  function sortBy(column, up) {
    Object.assign(state, { column, up, page: 0 });
    update();
  }

  function turn(step) {
    state.page += step;
    render();
    table.parentElement.scrollIntoView({ block: "start" });
  }

  let current = null;
  function enlarge(item) {
    current = item;
    const copy = item.card.cloneNode(true);
    copy.removeAttribute("id");
    copy.hidden = false;
    const title = copy.querySelector("h3");
    title.textContent = item.id;
    zoom.querySelector(".body").replaceChildren(copy);
    if (!zoom.open) zoom.showModal();
  }

  function step(by) {
    if (by === 0) return zoom.close();
    const list = state.shown.filter((item) => item.card);
    const next = list[list.indexOf(current) + by];
    if (next) enlarge(next);
  }

  const owner = new Map(items.filter((item) => item.card).map((item) => [item.card, item]));
  heads.forEach((head, index) => head.firstElementChild.addEventListener("click", () =>
    sortBy(index - 1, index - 1 === state.column ? !state.up : true)));
  select.addEventListener("change", () => sortBy(Number(select.value), state.up));
  direction.addEventListener("click", () => sortBy(state.column, !state.up));
  filter.addEventListener("input", () => { state.page = 0; update(); });
  find("back").addEventListener("click", () => turn(-1));
  find("forth").addEventListener("click", () => turn(1));
  find("more").addEventListener("click", () => { state.cards = Infinity; render(); });
  gallery.addEventListener("click", (event) => {
    if (event.target.closest(".open, .triptych")) enlarge(owner.get(event.target.closest(".card")));
  });
  body.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link) return;
    event.preventDefault();
    enlarge(owner.get(cards.get(Number(link.hash.replace("#image-", "")))));
  });
  find("worst").addEventListener("click", () => {
    const column = Math.max(state.column, Math.min(0, names.length - 1));
    sortBy(column, select.querySelector(`option[value="${column}"]`).dataset.worst === "low");
  });
  zoom.addEventListener("click", (event) => {
    if (event.target === zoom) zoom.close();
    else if (event.target.dataset.step !== undefined) step(Number(event.target.dataset.step));
  });
  zoom.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
  });
  if (gallery.dataset.sort) sortBy(Number(gallery.dataset.sort), gallery.dataset.up === "true");
  else update();
})();
