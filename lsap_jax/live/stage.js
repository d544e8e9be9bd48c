// The stage: the original, the take that is shown, those it is compared with, and the strip of all takes.

const MOST_COMPARED = 3;

function makeStage(studio) {
  const { info, state, take, photo } = studio;
  const kind = info.generator.resolution <= 128 ? "pixels" : "";
  const views = h("div", { class: "views" }), strip = h("ul", { class: "strip", "aria-label": "takes" });
  const empty = h("div", { class: "empty" }, h("p", { class: "big" }, "Drop a photograph here"),
    h("p", {}, "or ", button("choose one", studio.browse, "link"), ", or ", studio.starter("begin with a random sample", () => studio.sample(randomSeed()), "link"), "."));

  const find = (key) => state.takes.find((one) => one.key === key);
  const measured = (one) => ["psnr", "ssim"].filter((name) => name in one.metrics)
    .map((name) => `${name.toUpperCase()} ${one.metrics[name].toFixed(name === "psnr" ? 1 : 3)}`).join(" · ") || one.space.toUpperCase();
  const titled = (one) => (state.takes.filter((other) => other.label === one.label).length > 1 ? `${one.id}, ${one.label}` : one.label);

  function figure(key, label, source, note, main = false) {
    return h("figure", { class: main ? "main" : "" }, h("img", { class: kind, alt: label, src: source, "data-take": key }),
      h("figcaption", {}, h("b", {}, label), h("span", {}, note)));
  }
  const edited = (one, main) => figure(one.key, titled(one), state.pictures[one.key]?.picture ?? one.picture, measured(one), main);

  function figures() {
    const own = take(), waiting = photo();
    if (!own) return waiting ? [figure("", waiting.name, waiting.picture, waiting.notes.join("; "))] : [];
    const before = own.target ? figure("", "Original", own.target, own.id) : figure("", "Unedited", own.picture, own.id);
    return [before, edited(own, true), ...state.compared.filter((key) => key !== own.key).map((key) => edited(find(key), false))];
  }

  function thumb(one) {
    const chosen = one.key === state.take, label = titled(one);
    const compared = h("input", { type: "checkbox", checked: chosen || state.compared.includes(one.key), disabled: chosen, "aria-label": `compare with ${label}`,
      onchange: (event) => compare(one.key, event.target.checked) });
    return h("li", { class: chosen ? "chosen" : "" },
      h("button", { type: "button", class: "thumb", "aria-pressed": String(chosen), "aria-label": `show ${label}`, onclick: () => studio.choose(one.key) },
        h("img", { class: kind, src: one.picture, alt: "" }), h("b", {}, one.label), h("span", {}, one.id)),
      h("label", { class: "check" }, compared, chosen ? "shown" : "compare"),
      button("×", studio.tried(() => studio.forget(one.key)), "quiet remove", `remove ${label}`));
  }

  function compare(key, on) {
    const others = state.compared.filter((one) => one !== key);
    state.compared = on ? [...others, key].slice(-MOST_COMPARED) : others;
    refresh();
    studio.draw();
  }

  function refresh() {
    const shown = figures();
    views.replaceChildren(...shown);
    views.style.setProperty("--columns", Math.min(Math.max(shown.length, 2), 3));
    empty.hidden = shown.length > 0;
    views.hidden = shown.length === 0;
    strip.replaceChildren(...state.takes.map(thumb));
    strip.hidden = state.takes.length === 0;
  }

  /** Puts a picture in its place, and says in words what it shows. */
  function show({ take: key, picture, missing }, sliders) {
    const image = views.querySelector(`img[data-take="${key}"]`), own = find(key);
    if (!image || !own) return;
    image.src = picture;
    const edits = sliders.filter(({ name }) => !missing.includes(name)).map(({ name, strength }) => `${words(name)} ${signed(strength)}`).join(", ");
    const lacking = missing.length ? ` (its space has no ${missing.map(words).join(", ")})` : "";
    image.alt = `${titled(own)}: ${edits || "unedited"}`;
    image.nextElementSibling.lastElementChild.textContent = (edits || measured(own)) + lacking;
  }

  return { views, empty, strip, refresh, show };
}
