/* Devices: their bytes by owner, as a bar, with a legend by model. */
const OWN_COLORS = 12;
const colors = new Map();

/* A model that runs keeps its color. A new one has the color that the fewest others have: of twelve, each has its own. */
function colorModels(running) {
  const names = new Set([...running].sort());
  for (const name of colors.keys()) if (!names.has(name)) colors.delete(name);
  for (const name of names) {
    if (colors.has(name)) continue;
    const uses = Array(OWN_COLORS).fill(0);
    for (const color of colors.values()) uses[color]++;
    colors.set(name, uses.indexOf(Math.min(...uses)));
  }
}
function shade(name) { return `var(--own-${colors.get(name) || 0})`; }

const ORDER = ["own", "reclaiming", "foreign", "margin", "withheld", "free"];

function groupOf(p) {
  if (p.class === "own" || p.class === "reclaiming") return `${p.class} ${p.model}`;
  return p.class === "foreign" ? "foreign" : `${p.class} ${p.name}`;
}

/* The parts of a device in the order of the legend: models together, then all that is not a model's. */
function grouped(parts) {
  const groups = new Map();
  for (const p of parts) {
    const id = groupOf(p);
    const group = groups.get(id) || { id, class: p.class, name: p.model || p.name, bytes: 0, names: [], users: new Set() };
    group.bytes += p.bytes;
    group.names.push(p.name);
    for (const user of p.users || []) group.users.add(user);
    groups.set(id, group);
  }
  const place = g => ORDER.indexOf(g.class);
  return [...groups.values()].sort((a, b) => place(a) - place(b) || b.bytes - a.bytes);
}

function inWords(g) {
  const whose = g.users.size ? " for " + several([...g.users]) : "";
  const named = g.names.some(name => name !== "others"); /* who is no administrator is told no names */
  if (g.class === "foreign") return `foreign ${size(g.bytes)}${named ? `: ${several(g.names)}` : ""}`;
  const count = g.names.length > 1 ? ` × ${g.names.length}` : "";
  const instance = (g.class === "own" || g.class === "reclaiming") && g.names.length === 1 ? g.names[0] : g.name;
  return `${g.class === "reclaiming" ? "reclaiming: " : ""}${instance}${count} ${size(g.bytes)}${whose}`;
}

/* The largest of many models by name, and the rest of them as one. */
function legend(groups, most = 8) {
  const own = groups.filter(g => g.class === "own"), rest = own.slice(most);
  if (rest.length < 2) return groups.map(g => ({ ...g, text: inWords(g) }));
  const bytes = rest.reduce((sum, g) => sum + g.bytes, 0);
  const shown = groups.filter(g => !rest.includes(g)).map(g => ({ ...g, text: inWords(g) }));
  shown.splice(most, 0, { id: "rest", class: "rest", name: "", text: `${rest.length} more models ${size(bytes)}` });
  return shown;
}

function freshDevice() {
  return make("section", { class: "card" },
    make("div", { class: "head" }, make("h3"), make("span", { class: "dim name" }), make("span", { class: "right sum" }), make("button", { type: "button" }, "Yield…")),
    make("div", { class: "bar", role: "img" }), make("ul", { class: "legend" }), freshHistory());
}

function device(e, d, now) {
  put(e.querySelector("h3"), d.called);
  e.querySelector("h3").title = d.id;
  put(e.querySelector(".name"), d.name);
  const shared = (d.pool ? `, drawn from ${d.pool}` : "") + (d.views.length ? `, shared by ${d.views.join(" and ")}` : "");
  put(e.querySelector(".sum"), d.unavailable ? "unavailable: " + d.unavailable + (d.remedy ? ". Remedy: " + d.remedy : "") : `${size(Math.max(0, d.headroom))} free of ${size(d.capacity)}${shared}`);
  const give = e.querySelector("button");
  give.hidden = !admin;
  give.setAttribute("aria-label", `Yield memory of ${d.called}`);
  give.onclick = () => yieldOf(d);
  const all = grouped(d.parts), groups = legend(all), bar = e.querySelector(".bar");
  bar.hidden = !d.parts.length;
  bar.setAttribute("aria-label", `${d.called}: ` + groups.map(g => g.text).join(", "));
  const place = new Map(all.map((g, n) => [g.id, n]));
  const parts = [...d.parts].sort((a, b) => place.get(groupOf(a)) - place.get(groupOf(b)) || b.bytes - a.bytes);
  sync(bar, parts, p => `${p.class} ${p.name}`, () => make("span"), (s, p) => {
    s.className = p.class;
    s.style.width = 100 * p.bytes / d.capacity + "%";
    s.style.setProperty("--shade", shade(p.model));
    s.title = `${p.name}: ${size(p.bytes)}`;
    put(s, p.bytes > d.capacity / 10 ? p.name : "");
  });
  sync(e.querySelector("ul.legend"), groups, g => g.id, swatched, (li, g) => {
    li.firstChild.className = g.class;
    li.firstChild.style.setProperty("--shade", shade(g.name));
    put(li.lastChild, g.text);
  });
  history(e, d, now);
}
