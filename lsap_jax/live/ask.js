// How the view asks: ask(operation, request, {onProgress, signal}) resolves to the answer of lsap_jax.live.operations.

/** Over HTTP: a POST whose answer is lines of JSON. */
function overHttp(kept) {
  let client = kept.read().client ?? "";
  return async function ask(name, request, { onProgress, signal } = {}) {
    const headers = { "content-type": "application/json", "studio-client": client };
    const answer = await fetch(`/api/${name}`, { method: "POST", signal, body: JSON.stringify(request), headers });
    if (!answer.ok) throw new Error((await answer.json()).error);
    for await (const said of lines(answer.body)) {
      if ("error" in said) throw new Error(said.error);
      if ("progress" in said) { onProgress?.(said.progress); continue; }
      if (name === "begin") kept.write({ client: (client = said.done.client) });
      return said.done;
    }
    throw new Error("the studio ended before its answer");
  };
}

/** The JSON values of a stream, one a line. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", ended = false; !ended;) {
    const { value = "", done } = await reader.read();
    ended = done;
    const parts = (text + value).split("\n");
    text = parts.pop();
    for (const part of parts) if (part.trim()) yield JSON.parse(part);
  }
}

/** Over the messages of a notebook's widget. */
function overMessages(model) {
  const waiting = new Map();
  let count = 0;
  model.on("msg:custom", ({ call, progress, done, error }) => {
    const one = waiting.get(call);
    if (!one) return;
    if (progress) return one.onProgress?.(progress);
    waiting.delete(call);
    if (error !== undefined) one.failed(new Error(error)); else one.resolved(done);
  });
  return (name, request, { onProgress, signal } = {}) => new Promise((resolved, failed) => {
    const call = ++count;
    waiting.set(call, { resolved, failed, onProgress });
    signal?.addEventListener("abort", () => {
      model.send({ call, stop: true });
      waiting.delete(call);
      failed(new DOMException("stopped", "AbortError"));
    });
    model.send({ call, name, request });
  });
}
