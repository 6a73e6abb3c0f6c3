/* Models: how large each is, whether it would fit, what it is at; loaded, unloaded and tried from here. */
const loading = new Set();

function fitting(m) {
  if (m.fit === "now") return "fits now";
  if (m.fit === "never") return "never fits";
  if (m.fit === "blocked") return "not beside what others use";
  return m.fit === "after" ? `after ${m.ends.length} ${m.ends.length === 1 ? "ends" : "end"}` : "";
}

function contexts(m) {
  if (m.contexts === null) return m.ctx.toLocaleString("en");
  const [first, start, last] = m.contexts.map(n => n.toLocaleString("en"));
  return `${first === start ? first : `${first} (leases start with ${start})`} to ${last}`;
}

function standing(m, mine, waiting) {
  if (m.problem && !mine.length) return m.problem;
  const waits = waiting ? `${waiting} waiting` : "";
  if (!mine.length) return waits || (loading.has(m.model) ? "asked for" : "not loaded");
  const busy = mine.filter(i => i.processing).length;
  const [only] = mine, at = only.phase === "ready" ? `loaded, ${busy ? "busy" : "idle"}` : doing(only);
  const state = mine.length === 1 ? at : `${mine.length} instances, ${busy} busy`;
  return waits ? `${state}; ${waits}` : state;
}

function model(row, m, s) {
  const td = row.children, [name, others] = td[0].firstChild.children;
  const mine = s.instances.filter(i => i.model === m.model && !i.hold);
  put(name, m.model);
  put(others, [m.quantization, counted(m.slots, "slot") + `${m.shares ? " of one cache, conversations" : ""} of ${contexts(m)} tokens`, ...m.traits, m.aliases.length ? "also " + several(m.aliases) : ""].filter(Boolean).join(", "));
  put(td[1], m.bytes === null ? "" : size(m.bytes));
  put(td[2], mine.length ? "" : fitting(m));
  td[2].title = m.ends.length ? `The fewest that would have to end: ${m.ends.join(", ")}` : "";
  put(td[3], standing(m, mine, s.queue.filter(t => t.model === m.model && t.position).length));
  const [load, attempt] = td[4].firstChild.children;
  const up = mine.some(i => i.phase === "ready" || i.phase === "starting");
  put(load, up ? "Unload" : "Load");
  load.setAttribute("aria-label", `${up ? "Unload" : "Load"} ${m.model}`);
  load.disabled = loading.has(m.model) || (!up && m.fit === "never");
  load.onclick = () => up ? unload(m.model) : loadIt(m.model);
  attempt.hidden = !m.chats && !m.embeds;
  attempt.setAttribute("aria-label", `Try ${m.model}`);
  attempt.onclick = () => { location.hash = "try/" + encodeURIComponent(m.model); };
}

function models(s) {
  sync($("model-rows"), s.models, m => m.model, () => {
    const row = cells(make("tr", { tabindex: "-1" }), ["Model", "Size", "Fit", "State", "Actions"]);
    row.children[0].append(make("div", {}, make("strong"), make("span", { class: "why" })));
    row.children[4].append(make("div", { class: "acts" }, make("button", { type: "button" }), make("button", { type: "button" }, "Try")));
    return row;
  }, (row, m) => model(row, m, s));
  $("no-models").hidden = s.models.length > 0;
  $("model-rows").parentElement.hidden = !s.models.length;
}

/* ollama's way to load a model: a request without a prompt. It waits its turn in the queue, like any other. */
async function loadIt(name) {
  loading.add(name);
  say(`${name} is asked for`);
  try {
    const answer = await fetch("api/generate", { method: "POST", headers: headers(), body: JSON.stringify({ model: name }) });
    const last = JSON.parse((await answer.text()).trim().split("\n").pop());
    if (last.error) throw new Error(said(last));
    problem("");
    say(`${name} is loaded`);
  } catch (error) {
    problem(`${name} was not loaded: ${error.message}`);
  } finally {
    loading.delete(name);
  }
}

async function unload(name) {
  try {
    const answer = await fetch("api/unload/" + name.split("/").map(encodeURIComponent).join("/"), { method: "POST", headers: headers() });
    if (!answer.ok) throw new Error(said(await answer.json()));
    problem("");
    say(`${name} ends as soon as it is idle; one that is pinned stays`);
  } catch (error) {
    problem(`${name} was not unloaded: ${error.message}`);
  }
}

/* The message of an error, in the shape of whichever API it came by. */
