// The studio itself: what it knows, how pictures follow, and where it is shown.

const FIRST_SLIDERS = ["smile", "beard", "open_mouth", "long_hair", "age", "pose"], SHOWN_FIRST = 5, KEPT = "lsap-jax-studio";

/** Builds the studio inside an element. `kept` remembers a small object between loads, if there is such a place. */
export async function mount(root, ask, kept = { read: () => ({}), write: () => {} }) {
  const info = await ask("begin", {});
  const state = initial(info, kept.read());
  const status = h("p", { class: "status", role: "status" }), alarm = h("p", { class: "alarm", role: "alert", hidden: true });
  const studio = {
    info, state, ask,
    take: () => state.takes.find((one) => one.key === state.take),
    photo: () => state.photos.find((one) => one.key === state.photo),
    moving: () => state.sliders.filter((one) => one.strength !== 0),
    say(text) { status.textContent = text; alarm.hidden = true; },
    fail(error) {
      if (error.name === "AbortError") return studio.say("stopped");
      alarm.textContent = error.message;
      alarm.hidden = false;
    },
    tried: (action) => async (...given) => { try { return await action(...given); } catch (error) { studio.fail(error); } },
    /** What is shown, for operations on one take. */
    request() {
      const { with: other, mode, t, layers } = state.blend;
      const blend = !state.takes.some((one) => one.key === other) ? null : mode === "t" ? { with: other, t } : { with: other, layers };
      return { take: state.take, sliders: studio.moving(), blend };
    },
    choose(key) { state.take = key; refresh(); studio.draw(); },
    add(made) { state.takes.push(made); studio.choose(made.key); studio.say(`${made.label} is ready`); },
    async forget(key) {
      await ask("remove", { key });
      state.takes = state.takes.filter((one) => one.key !== key);
      state.compared = state.compared.filter((one) => one !== key);
      studio.choose(state.take === key ? state.takes.at(-1)?.key ?? null : state.take);
    },
  };
  studio.receive = studio.tried(async (file) => {
    if (!file) return;
    state.file = file;
    studio.say(`reading ${file.name}`);
    const { photo } = await studio.long("photo", { name: file.name, data: await base64(file), align: studio.aligned() });
    state.photos.push(photo);
    state.photo = photo.key;
    studio.say(`${photo.name} is here`);
    refresh();
  });
  Object.assign(studio, longOperations(studio));
  const cards = [photographCard, runCard, slidersCard, blendCard, sampleCard, saveCard].map((make) => make(studio));
  const stage = makeStage(studio);
  studio.draw = following(studio, stage, () => kept.write({ take: state.take, compared: state.compared, sliders: state.sliders }));
  function refresh() { [...cards, stage].forEach((one) => one.refresh()); }

  const said = h("div", { class: "said" }, status, alarm);
  root.classList.add("lsap-studio");
  root.replaceChildren(
    h("header", {}, h("h1", {}, "Studio"), h("span", {}, `${info.generator.name} · ${info.generator.resolution} px`)),
    h("div", { class: "both" }, h("section", { class: "stage", "aria-label": "pictures" }, stage.views, stage.empty, stage.strip, said),
      h("div", { class: "panel" }, cards.map((one) => one.element))));
  for (const kind of ["dragover", "dragleave", "drop"]) root.addEventListener(kind, (event) => {
    event.preventDefault();
    root.classList.toggle("over", kind === "dragover");
    if (kind === "drop") studio.receive(event.dataTransfer.files[0]);
  });
  refresh();
  studio.draw();
}

/** The state at the start: what the session has, and what was remembered of the view. */
function initial(info, before) {
  const there = (key) => info.takes.some((one) => one.key === key);
  const known = Object.values(info.directions).flat().map((one) => one.name);
  const first = [...new Set([...FIRST_SLIDERS.filter((name) => known.includes(name)), ...known])].slice(0, SHOWN_FIRST);
  return {
    photos: info.photos, takes: info.takes, photo: info.photos.at(-1)?.key ?? null, file: null, pictures: {},
    take: there(before.take) ? before.take : info.takes[0]?.key ?? null,
    compared: (before.compared ?? []).filter(there),
    sliders: before.sliders ?? first.map((name) => ({ name, strength: 0, layers: "" })),
    blend: { with: "", mode: "t", t: 0.5, layers: "coarse" },
  };
}

/** Long operations: one at a time, with progress and a button that stops it. */
function longOperations(studio) {
  const bar = h("progress", { max: 1, "aria-label": "progress" }), spark = h("div", { class: "spark" }), phase = h("span");
  const progress = h("div", { class: "progress", hidden: true }, bar, h("div", { class: "row between" }, phase, button("Stop", () => job?.abort(), "quiet")), spark);
  const starters = [];
  let job = null;
  const busy = (on) => { progress.hidden = !on; starters.forEach((one) => { one.disabled = on; }); };
  async function long(name, request) {
    if (job) throw new Error("something is under way; wait until it is done, or stop it");
    const losses = [], own = (job = new AbortController());
    bar.removeAttribute("value");
    phase.textContent = "waiting for its turn";
    spark.replaceChildren();
    busy(true);
    const onProgress = ({ phase: what, step, steps, loss }) => {
      phase.textContent = what + (steps ? `, ${step} of ${steps}` : "") + (loss ? `, loss ${loss.toPrecision(3)}` : "");
      if (steps) bar.value = step / steps; else bar.removeAttribute("value");
      if (loss) { losses.push(loss); spark.replaceChildren(curve(losses)); }
    };
    try { return await studio.ask(name, request, { onProgress, signal: own.signal }); } finally { job = null; busy(false); }
  }
  function starter(label, action, kind = "") {
    const made = button(label, studio.tried(action), kind);
    made.disabled = job !== null;
    starters.push(made);
    return made;
  }
  return { progress, long, starter };
}

/** Pictures follow the sliders: one request is under way, and the latest state goes after it. */
function following(studio, stage, remember) {
  const { state, ask } = studio;
  let drawing = false, stale = false;
  async function once() {
    const sliders = studio.moving(), others = state.compared.filter((key) => key !== state.take);
    const asked = [{ ...studio.request(), takes: [{ take: state.take }] }];
    if (others.length) asked.push({ sliders, takes: others.map((take) => ({ take })) });
    for (const { pictures } of await Promise.all(asked.map((one) => ask("picture", one)))) {
      for (const one of pictures) { state.pictures[one.take] = one; stage.show(one, sliders); }
    }
  }
  return async function draw() {
    remember();
    stale = true;
    if (drawing) return;
    drawing = true;
    try {
      while (stale && studio.take()) { stale = false; await once(); }
    } catch (error) { studio.fail(error); } finally { drawing = false; }
    studio.describe();
  };
}

export default {
  render({ model, el }) {
    const root = h("div"), light = document.body.dataset.jpThemeLight;
    if (light !== undefined) root.dataset.theme = light === "false" ? "dark" : "light";
    el.append(root);
    mount(root, overMessages(model)).catch((error) => root.replaceChildren(error.message));
  },
};

const page = document.getElementById("lsap-studio");
if (page) {
  const read = () => JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
  const kept = { read, write: (value) => sessionStorage.setItem(KEPT, JSON.stringify({ ...read(), ...value })) };
  mount(page, overHttp(kept), kept).catch((error) => page.replaceChildren(h("p", { class: "alarm" }, error.message)));
}
