// The cards beside the stage. Each is made once and returns its element and a function that brings it up to date.

const SPAN = 5, STEP = 0.05;

function photographCard(studio) {
  const { info, state, photo } = studio;
  const file = h("input", { type: "file", accept: "image/*", class: "hidden-file", "aria-label": "photograph", onchange: () => studio.receive(file.files[0]) });
  const align = h("input", { type: "checkbox", checked: info.align, onchange: () => state.file && studio.receive(state.file) });
  const way = h("select", { onchange: () => steady() }, options(info.ways.map((one) => [one.name, one.label])));
  const steps = h("input", { type: "number", min: 1, max: 10000, inputmode: "numeric" }), stepsField = field("Steps", steps);
  const refine = h("select", {}, options([["", "no refinement"], ...info.refiners.map((name) => [name, name])]));
  const shown = h("div", { class: "shown" });
  const find = studio.starter("Find codes", async () => {
    const request = { photo: state.photo, way: way.value, refine: refine.value, ...(stepsField.hidden ? {} : { steps: Number(steps.value) }) };
    studio.add((await studio.long("take", request)).take);
  }, "primary");
  const later = h("div", { class: "inside nested" }, shown, field("By", way), stepsField, field("Then", refine), find);
  function steady() {
    const chosen = info.ways.find((one) => one.name === way.value);
    stepsField.hidden = !chosen?.steps;
    if (chosen?.steps) steps.value = chosen.steps;
  }
  studio.browse = () => file.click();
  studio.aligned = () => align.checked;
  steady();
  return {
    element: card("Photograph", true, h("div", { class: "row" }, button("Choose a file", studio.browse), file, h("span", { class: "hint" }, "or drop it anywhere")),
      h("label", { class: "check" }, align, "cut out the face, as FFHQ's faces are"), later, studio.progress),
    refresh() {
      const own = photo();
      later.hidden = !own;
      if (own) shown.replaceChildren(h("img", { src: own.picture, alt: "" }), h("span", {}, [own.name, ...own.notes].join("; ")));
    },
  };
}

function slidersCard(studio) {
  const { info, state, take } = studio;
  const list = h("div", { class: "sliders" }), names = h("datalist", { id: `names-${Math.random().toString(36).slice(2)}` });
  const wanted = h("input", { list: names.id, placeholder: "beard, ganspace:3", "aria-label": "direction to add", onkeydown: (event) => event.key === "Enter" && add() });
  const known = () => info.directions[take()?.family] ?? [];
  const add = studio.tried(async () => {
    const text = wanted.value.trim().replaceAll(" ", "_");
    if (!text) return;
    let name = known().find((one) => one.name === text)?.name;
    if (!name) {
      const found = await studio.long("direction", { take: state.take, direction: text });
      info.directions[found.family].push(found.direction);
      name = found.direction.name;
    }
    if (!state.sliders.some((one) => one.name === name)) state.sliders.push({ name, strength: 0, layers: "" });
    wanted.value = "";
    refresh();
    list.lastElementChild.querySelector("input[type=range]").focus();
  });
  const zero = () => { state.sliders.forEach((one) => { one.strength = 0; }); refresh(); studio.draw(); };
  const drop = (one) => { state.sliders = state.sliders.filter((other) => other !== one); refresh(); studio.draw(); };
  function refresh() {
    const ranges = take()?.ranges ?? [], there = new Set(known().map((one) => one.name));
    names.replaceChildren(...options([...there].map((name) => [name, words(name)])));
    list.replaceChildren(...state.sliders.map((one) => slider(one, there.has(one.name), ranges, studio.draw, drop)));
    element.hidden = !take();
  }
  const element = card("Sliders", true, list, h("div", { class: "row" }, wanted, names, button("Add", add), button("All to 0", zero, "quiet")));
  return { element, refresh };
}

/** One slider: {name, strength, layers}, which it changes. */
function slider(one, there, ranges, changed, drop) {
  const label = words(one.name), span = Math.max(SPAN, Math.abs(one.strength));
  const range = h("input", { type: "range", min: -span, max: span, step: STEP, disabled: !there, "aria-label": label });
  const exact = h("input", { type: "number", step: 0.1, disabled: !there, "aria-label": `strength of ${label}` });
  function set(value, written = true) {
    one.strength = Number.isFinite(value) ? value : 0;
    if (Math.abs(one.strength) > Number(range.max)) { range.max = Math.abs(one.strength); range.min = -range.max; }
    const at = 50 + (50 * one.strength) / Number(range.max);
    range.value = one.strength;
    range.setAttribute("aria-valuetext", signed(one.strength));
    range.style.setProperty("--low", `${Math.min(at, 50)}%`);
    range.style.setProperty("--high", `${Math.max(at, 50)}%`);
    if (written) exact.value = Number(one.strength.toFixed(2));
  }
  const to = (value, written) => { set(value, written); changed(); };
  range.addEventListener("input", () => to(Number(range.value)));
  range.addEventListener("keydown", (event) => { if (["0", "Delete", "Backspace"].includes(event.key)) to(0); });
  exact.addEventListener("input", () => to(Number(exact.value), false));
  set(one.strength);
  const layers = ranges.length < 2 ? "" : h("select", { "aria-label": `layers of ${label}`, onchange: (event) => { one.layers = event.target.value; changed(); } },
    options([["", "its layers"], ...ranges.map((name) => [name, name])], one.layers));
  return h("div", { class: there ? "slider" : "slider absent", title: there ? undefined : "not in the space of this take" },
    h("button", { type: "button", class: "name", title: "back to 0", onclick: () => to(0) }, label), exact,
    button("×", () => drop(one), "quiet remove", `remove ${label}`), range, layers);
}

function blendCard(studio) {
  const { state, take } = studio, { blend } = state;
  const set = (name, value) => { blend[name] = value; refresh(); studio.draw(); };
  const other = h("select", { onchange: () => set("with", other.value) });
  const mode = h("select", { onchange: () => set("mode", mode.value) }, options([["t", "the way between both"], ["layers", "layers of the other"]]));
  const at = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: blend.t, oninput: () => { blend.t = Number(at.value); studio.draw(); } });
  const rows = h("select", { onchange: () => set("layers", rows.value) });
  const modeField = field("As", mode), atField = field("How far", at), rowsField = field("Layers", rows);
  function refresh() {
    const own = take();
    const fits = own && !own.refined ? state.takes.filter((one) => one.key !== own.key && one.space === own.space && !one.refined) : [];
    if (!fits.some((one) => one.key === blend.with)) blend.with = "";
    const none = own?.refined ? "refined takes do not mix" : fits.length ? "none" : "no other take of this space";
    other.replaceChildren(...options([["", none], ...fits.map((one) => [one.key, `${one.id}, ${one.label}`])], blend.with));
    const layered = (own?.ranges ?? []).filter((name) => name !== "all");
    if (!layered.includes(blend.layers)) blend.layers = layered[0] ?? "";
    rows.replaceChildren(...options(layered.map((name) => [name, name]), blend.layers));
    modeField.hidden = !blend.with;
    atField.hidden = !blend.with || blend.mode !== "t";
    rowsField.hidden = !blend.with || blend.mode !== "layers";
    element.hidden = !own;
  }
  const element = card("Mix and interpolate", false, field("With", other), modeField, atField, rowsField);
  return { element, refresh };
}

function sampleCard(studio) {
  const seed = h("input", { type: "number", min: 0, max: 4294967295, value: 0, inputmode: "numeric" });
  const psi = h("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1 });
  studio.sample = async (number) => {
    seed.value = number;
    studio.add((await studio.long("sample", { seed: number, psi: Number(psi.value) })).take);
  };
  const draw = studio.starter("Draw", () => studio.sample(Number(seed.value))), surprise = studio.starter("Surprise me", () => studio.sample(randomSeed()));
  return { element: card("Random samples", false, field("Seed", seed), field("Truncation ψ", psi), h("div", { class: "row" }, draw, surprise)), refresh() {} };
}

function runCard(studio) {
  const { info } = studio;
  if (!info.run) return { element: "", refresh() {} };
  const found = h("ul", { class: "found" });
  const query = h("input", { type: "search", placeholder: "filter by id", oninput: debounced(() => search(), 200) });
  const item = (id) => h("li", {}, studio.starter(id, async () => studio.add((await studio.long("finished_take", { id })).take), "link"));
  const search = studio.tried(async () => {
    const { ids, count } = await studio.ask("finished", { query: query.value });
    const rest = count > ids.length ? [h("li", { class: "hint" }, `and ${count - ids.length} more`)] : [];
    found.replaceChildren(...ids.map(item), ...rest);
  });
  search();
  return { element: card(`Run ${info.run.name}`, true, field(`${info.run.count} images`, query), found), refresh() {} };
}

function saveCard(studio) {
  const { state, take } = studio;
  const command = h("code"), block = h("pre", { tabindex: 0, role: "region", "aria-label": "command lines" }, command);
  const save = studio.tried(async () => {
    const { name, data } = await studio.ask("save", studio.request());
    download(name, data);
    studio.say(`${name} is saved`);
  });
  const keep = studio.tried(async () => studio.add((await studio.ask("keep", studio.request())).take));
  const copy = studio.tried(async () => { await navigator.clipboard.writeText(command.textContent); studio.say("copied"); });
  studio.describe = debounced(studio.tried(async () => {
    if (take()) command.textContent = (await studio.ask("lines", studio.request())).text;
  }), 250);
  const element = card("Save", true, h("div", { class: "row" }, button("Save pictures and codes", save, "primary"), button("Keep as a take", keep)),
    h("div", { class: "row between" }, h("span", { class: "hint" }, "The same in batch"), button("Copy", copy, "quiet")), block);
  return { element, refresh() { element.hidden = !state.take; } };
}
