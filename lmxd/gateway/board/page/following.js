/* A page follows the stream of its events as long as it is open, by the key that it was given for this tab. */
let key = sessionStorage.getItem("lmxd-key") || "", retry = 0;

function headers() { return key ? { Authorization: "Bearer " + key } : {}; }

async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (buffer + value).split(/\r?\n\r?\n/);
    buffer = events.pop();
    yield* events;
  }
}

/* begun: called at each begin of the stream; told: what is done with the content of an event, by its name. */
async function follow(begun, told) {
  following = () => follow(begun, told);
  try {
    const answer = await fetch("lmxd/events", { headers: headers() });
    if (answer.status === 401) { $("door").hidden = false; $("key").focus(); $("all").hidden = true; put($("about"), ""); if (key) problem("This key is not known."); return; }
    if (!answer.ok) throw new Error(said(await answer.json()));
    $("door").hidden = true;
    $("leave").hidden = !key;
    retry = 0;
    begun();
    for await (const event of eventsOf(answer)) {
      const [, name, data] = event.match(/^event: (\w+)\ndata: (.*)$/s) || [];
      if (told[name]) told[name](JSON.parse(data));
    }
    throw new Error("the gateway closed the connection");
  } catch (error) {
    problem(`Not connected: ${error.message}`);
    put($("about"), "connecting again");
    setTimeout(following, Math.min(10000, 500 * 2 ** retry++));
  }
}
let following = () => {};

$("door").addEventListener("submit", event => {
  event.preventDefault();
  key = $("key").value.trim();
  sessionStorage.setItem("lmxd-key", key);
  $("key").value = "";
  problem("");
  following();
});
$("leave").addEventListener("click", () => { sessionStorage.removeItem("lmxd-key"); location.reload(); });
