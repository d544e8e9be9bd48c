// The studio's script is several files that are joined in the order of lsap_jax.live.page.SCRIPTS into one ES module.
// This one: elements of the page, and small functions.

/** An element: h("button", {class: "quiet", onclick: f, "aria-label": "Stop"}, children...). */
function h(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (["value", "checked", "disabled", "hidden", "open", "selected"].includes(name)) element[name] = value;
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const card = (title, open, ...children) =>
  h("details", { class: "card", open }, h("summary", {}, h("h2", {}, title)), h("div", { class: "inside" }, ...children));
const field = (label, control) => h("label", { class: "field" }, h("span", {}, label), control);
const options = (values, chosen) => values.map(([value, label]) => h("option", { value, selected: value === chosen }, label));
const button = (label, onclick, kind = "", name = undefined) =>
  h("button", { type: "button", class: kind, onclick, "aria-label": name }, label);

const words = (name) => name.replaceAll("_", " ");
const signed = (x) => `${x > 0 ? "+" : ""}${Number(x.toFixed(2))}`.replace("-", "−");
const randomSeed = () => Math.floor(Math.random() * 10000);

function debounced(action, wait) {
  let timer = 0;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => action(...given), wait); };
}

/** A falling loss as a line, on a logarithmic scale. */
function curve(losses) {
  const logs = losses.map(Math.log), low = Math.min(...logs), high = Math.max(...logs, low + 1e-6);
  const x = (i) => ((100 * i) / Math.max(losses.length - 1, 1)).toFixed(1), y = (v) => (28 - (24 * (v - low)) / (high - low)).toFixed(1);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), line = document.createElementNS(svg.namespaceURI, "polyline");
  for (const [name, value] of Object.entries({ viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" })) svg.setAttribute(name, value);
  line.setAttribute("points", logs.map((v, i) => `${x(i)},${y(v)}`).join(" "));
  svg.append(line);
  return svg;
}

/** The bytes of a file as base64. */
const base64 = (blob) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => failed(new Error("the file cannot be read"));
  reader.readAsDataURL(blob);
});

/** Hands bytes, in base64, to the browser as a download. */
function download(name, data) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const link = h("a", { href: URL.createObjectURL(new Blob([bytes], { type: "application/zip" })), download: name });
  document.body.append(link);  // some browsers follow only links of the page
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
