/* A small chat with one model, or a text's vector of one that embeds. Nothing of it is kept. */
let tried = null, conversation = [], going = null;

function openTry(m) {
  if (tried && tried.model === m.model && $("try").open) return;
  tried = m;
  put($("try-title"), `Try ${m.model}`);
  clearTry();
  if (!$("try").open) $("try").showModal();
  $("try-text").focus();
}
function clearTry() {
  if (going) going.abort();
  conversation = [];
  $("try-log").replaceChildren();
  $("try-picture").value = "";
  $("try-sees").hidden = !tried.traits.includes("vision");
  put($("try-told"), tried.chats ? "Its first answer takes longer, if it has to be loaded." : "It has no chat: a text becomes a vector.");
}

function spoken(kind, text) {
  const p = make("p", { class: kind }, text);
  $("try-log").append(p);
  $("try-log").scrollTop = $("try-log").scrollHeight;
  return p;
}

/* A stream's comments say where the request stands, and its events what the model says. */
function whereItStands(comment) {
  const [word, ...rest] = comment.replace(/^:\s*/, "").split(" "), told = Object.fromEntries(rest.map(x => x.split("=")));
  if (word === "queued") return `waits, number ${told.position || "?"} in the queue${told.eta ? `, expected in ${time(Number(told.eta))}` : ""}`;
  return word === "starting" ? `is being loaded${told.eta ? `, expected in ${time(Number(told.eta))}` : ""}` : "answers";
}

async function chat(signal) {
  const begun = performance.now(), sinceBegun = () => (performance.now() - begun) / 1000;
  const body = { model: tried.model, messages: conversation, stream: true, stream_options: { include_usage: true } };
  const answer = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (!answer.ok) throw new Error(said(await answer.json()));
  let first = null, pieces = 0, count = null, rate = null, thoughts = null, shown = null, text = "";
  for await (const event of eventsOf(answer)) {
    if (event.startsWith(":")) { put($("try-told"), `${tried.model} ${whereItStands(event)}`); continue; }
    const data = event.split("\n").filter(line => line.startsWith("data:")).map(line => line.slice(5)).join("").trim();
    if (!data || data === "[DONE]") continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(said(chunk));
    const delta = chunk.choices && chunk.choices[0] && chunk.choices[0].delta || {};
    const thought = delta.reasoning_content || delta.reasoning;
    if (thought || delta.content) { pieces++; first = first === null ? sinceBegun() : first; }
    if (thought) (thoughts = thoughts || spoken("dim", "")).append(thought);
    if (delta.content) { (shown = shown || spoken("", "")).append(delta.content); text += delta.content; }
    if (chunk.usage) count = chunk.usage.completion_tokens;
    if (chunk.timings) rate = chunk.timings.predicted_per_second;
    $("try-log").scrollTop = $("try-log").scrollHeight;
  }
  const took = sinceBegun(), exact = count !== null;
  const perSecond = rate || (first !== null && took > first ? (count || pieces) / (took - first) : null);
  conversation.push({ role: "assistant", content: text });
  put($("try-told"), [perSecond ? `${exact || rate ? "" : "about "}${speed(perSecond)} tokens/s` : "", counted(exact ? count : pieces, "token"), first === null ? "" : `the first after ${brief(first)}`].filter(Boolean).join(", "));
}

async function embed(text, signal) {
  const begun = performance.now();
  const answer = await fetch("v1/embeddings", { method: "POST", headers: headers(), body: JSON.stringify({ model: tried.model, input: text }), signal });
  const body = await answer.json();
  if (!answer.ok) throw new Error(said(body));
  const vector = body.data[0].embedding;
  spoken("", `${vector.length} numbers: ${vector.slice(0, 4).map(n => n.toFixed(4)).join(", ")}, …`);
  put($("try-told"), `in ${brief((performance.now() - begun) / 1000)}`);
}

/* The picture that was chosen, as a URL that has all of it; null without one. */
function pictured() {
  const [file] = tried.traits.includes("vision") ? $("try-picture").files : [];
  if (!file) return Promise.resolve(null);
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

function answering(on) {
  $("try-send").disabled = on;
  $("try-stop").hidden = !on;
}

async function send() {
  const text = $("try-text").value.trim();
  if (!text || going) return;
  const mine = going = new AbortController();
  $("try-text").value = "";
  answering(true);
  spoken("mine", text);
  put($("try-told"), `${tried.model} is asked`);
  try {
    const url = await pictured();
    $("try-picture").value = "";
    const content = url ? [{ type: "text", text }, { type: "image_url", image_url: { url } }] : text;
    if (tried.chats) { conversation.push({ role: "user", content }); await chat(mine.signal); } else await embed(text, mine.signal);
    say(`${tried.model} has answered: ${$("try-told").textContent}`);
  } catch (error) {
    if (!mine.signal.aborted) spoken("error", error.message);
    put($("try-told"), mine.signal.aborted ? "stopped" : "it failed");
  } finally {
    if (going === mine) going = null;
    answering(Boolean(going));
  }
}

$("try-form").addEventListener("submit", event => { event.preventDefault(); send(); });
$("try-text").addEventListener("keydown", event => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); } });
$("try-stop").addEventListener("click", () => going && going.abort());
$("try-clear").addEventListener("click", clearTry);
$("try-close").addEventListener("click", () => $("try").close());
$("try").addEventListener("close", () => {
  if (going) going.abort();
  if (location.hash.startsWith("#try/")) location.replace("#model/" + location.hash.slice(5));
});
