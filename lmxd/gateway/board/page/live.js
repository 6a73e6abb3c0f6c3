/* The page follows a stream of events as long as it is open. */
let latest = null, away = true, known = new Map(), admin = false;

function summary(s) {
  const running = s.instances.filter(i => !i.hold), loaded = new Set(running.filter(i => i.phase === "ready").map(i => i.model));
  const waiting = s.queue.filter(t => t.position), longest = Math.max(0, ...waiting.map(t => t.waited));
  const own = s.devices.filter(d => !d.unavailable && !d.pool);
  const sum = (all, of) => all.reduce((n, x) => n + of(x), 0);
  return [
    `${loaded.size} of ${counted(s.models.length, "model")} loaded`,
    `${running.filter(i => i.processing).length} of ${counted(running.length, "instance")} busy`,
    waiting.length ? `${waiting.length} waiting, the longest for ${time(longest)}` : "nobody waits",
    own.length ? `${size(sum(own, d => Math.max(0, d.headroom)))} free of ${size(sum(own, d => d.capacity))}` : "no memory known",
    `${speed(sum(running, i => i.speed))} tokens/s`,
    ...(s.moving ? [`${counted(s.moving, "lease")} on the way to another instance`] : []),
  ].join(" · ");
}

function show(s) {
  if (s.error) { away = true; problem(s.error); put($("about"), "lmxd does not answer"); return; }
  if (s.sample) remember(s.sample);
  if (!s.devices) return;
  if (away) problem("");
  away = false;
  latest = s;
  admin = s.admin;
  $("all").hidden = false;
  put($("about"), `${s.version}, up for ${time(s.uptime)}${s.draining ? ", draining" : ""}${s.admission ? "" : ", admission is OFF"}`);
  put($("summary"), summary(s));
  sync($("warnings"), s.warnings, w => w, () => make("p", { class: "warning" }), put);
  colorModels(s.devices.flatMap(d => d.parts).map(p => p.model).filter(Boolean));
  sync($("device-list"), s.devices, d => d.id, freshDevice, (e, d) => device(e, d, s.at));
  $("no-devices").hidden = s.devices.length > 0;
  queue(s.queue);
  models(s);
  instances(s.instances);
  connecting(s.models);
  announce(s.instances);
  aimOnce();
}

function announce(found) {
  const now = new Map(found.map(i => [i.instance, i.phase]));
  const news = [...now].filter(([name, phase]) => known.size && known.get(name) !== phase).map(([name, phase]) => `${name} is ${phase}`);
  if (news.length) say(several(news));
  known = now;
}

async function act(name, what, done) {
  const answer = await fetch("lmxd/" + name, { method: "POST", headers: headers(), body: JSON.stringify(what) });
  const body = await answer.json();
  if (answer.ok) { problem(""); say(done); } else problem(said(body));
}
function ask(dialog, then) {
  dialog.onclose = () => { if (dialog.returnValue === "yes") then(); };
  dialog.returnValue = "";
  dialog.showModal();
}
function yieldOf(d) {
  put($("give-title"), `Keep memory of ${d.called} free for others`);
  ask($("give"), () => act("yield", { device: d.id, bytes: Math.round($("give-size").value * GIB), lasts: $("give-time").value * 60 }, "memory is being made free"));
}
const THEMES = ["system", "light", "dark"];
function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  localStorage.setItem("lmxd-theme", name);
  put($("theme"), "Theme: " + name);
}
$("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(localStorage.getItem("lmxd-theme") || "system") + 1) % 3]));
theme(localStorage.getItem("lmxd-theme") || "system");
follow(() => { away = true; }, { timeline: samples => { timeline = samples; }, state: show, requests });
