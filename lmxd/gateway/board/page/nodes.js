/* The nodes of a fleet, the models that they have, and the users. */

function standing(n) {
  if (n.state !== "silent") return n.state;
  return n.silent === null ? "silent" : `silent for ${time(n.silent)}`;
}

function freshNode() {
  return make("section", { class: "card" },
    make("div", { class: "head" }, make("h3"), make("span", { class: "dim" }), make("span", { class: "right" })),
    make("div", { class: "bar", role: "img" }), make("p", { class: "dim" }));
}

function node(e, n) {
  const [name, state, sum] = e.firstChild.children, bar = e.querySelector(".bar");
  put(name, n.node);
  put(state, [standing(n), n.address, ...n.labels].join(" · "));
  put(sum, n.capacity ? `${size(n.free)} free of ${size(n.capacity)}` : "");
  const used = Math.max(0, n.capacity - n.free - n.idle);
  const parts = [["in use", used, "own"], ["idle", n.idle, "reclaiming"], ["free", n.free, "free"]].filter(part => part[1] > 0);
  bar.hidden = !n.capacity;
  bar.setAttribute("aria-label", `${n.node}: ` + parts.map(([what, bytes]) => `${what} ${size(bytes)}`).join(", "));
  sync(bar, parts, part => part[0], () => make("span"), (s, [what, bytes, kind]) => {
    s.className = kind;
    s.style.width = 100 * bytes / n.capacity + "%";
    s.style.setProperty("--shade", "var(--own-0)");
    put(s, bytes > n.capacity / 10 ? `${what} ${size(bytes)}` : "");
  });
  const slots = n.slots ? [`${n.used} of ${counted(n.slots, "slot")} in use`] : ["nothing is loaded"];
  put(e.lastChild, [...slots, n.waiting ? `${n.waiting} waiting, served in ${time(n.eta)}` : "nobody waits", counted(n.models, "model")].join(" · "));
}

function model(row, m) {
  const td = row.children;
  put(td[0], m.model);
  put(td[1], m.slots ? `${m.used} of ${m.slots}` : "");
  put(td[2], several(m.ready));
  put(td[3], several(m.loading));
  put(td[4], several(m.nodes));
}

function limited(has, most) { return most === null ? has : `${has} of ${most}`; }

function user(row, u) {
  const td = row.children;
  put(td[0], u.user);
  put(td[1], String(u.weight));
  put(td[2], `${Math.round(100 * u.part)}%`);
  put(td[3], `${(u.use / 2 ** 30 / 3600).toFixed(2)} GiB h`);
  put(td[4], limited(size(u.bytes), u.max_bytes === null ? null : size(u.max_bytes)));
  put(td[5], limited(String(u.leases), u.max_leases));
  put(td[6], limited(String(u.waiting), u.max_waiting));
  put(td[7], several(u.nodes));
}

function show(s) {
  const up = s.nodes.filter(n => n.state === "up").length, alive = s.nodes.filter(n => n.state !== "silent");
  const sum = of => alive.reduce((all, n) => all + n[of], 0), waiting = sum("waiting") + s.held;
  $("all").hidden = false;
  put($("about"), `${s.fleet}, ${s.version}`);
  put($("summary"), [`${up} of ${counted(s.nodes.length, "node")} up`, `${size(sum("free"))} free of ${size(sum("capacity"))}`, `${sum("used")} of ${counted(sum("slots"), "slot")} in use`, waiting ? `${waiting} waiting` : "nobody waits"].join(" · "));
  sync($("node-list"), s.nodes, n => n.node, freshNode, node);
  $("no-nodes").hidden = s.nodes.length > 0;
  sync($("model-rows"), s.models, m => m.model, () => cells(make("tr"), ["Model", "Slots in use", "Ready at", "Loading at", "Offered by"]), model);
  $("no-models").hidden = s.models.length > 0;
  $("model-rows").parentElement.hidden = !s.models.length;
  $("user-part").hidden = !s.users.length;
  $("own-alone").hidden = s.admin;
  sync($("user-rows"), s.users, u => u.user, () => cells(make("tr"), ["User", "Weight", "Part", "Used", "Memory", "Leases", "Waiting", "At"]), user);
}

follow(() => problem(""), { state: show });
