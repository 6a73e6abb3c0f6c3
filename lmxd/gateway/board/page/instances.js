/* Instances: what each is at, and what an administrator may do with it. */
function doing(i) {
  if (i.phase === "starting") return i.loaded === null ? "starting" : `loading ${Math.round(100 * i.loaded)} %`;
  if (i.phase !== "ready") return i.phase;
  if (i.yield_in !== null) return `to yield in ${time(i.yield_in)}`;
  if (i.hold) return "held";
  const at = i.processing ? "busy" : "idle";
  if (i.swap) return i.swap.closes_in > 0 ? `${at}, serves for ${time(i.swap.closes_in)}, then makes way for ${i.swap.model}` : `${at}, finishes, then makes way for ${i.swap.model}`;
  if (i.processing) return "busy";
  return i.pinned ? "idle, pinned" : i.idle_timeout >= 1e9 ? `idle ${time(i.idle)}, stays` : `idle ${time(i.idle)} of ${time(i.idle_timeout)}`;
}

function instance(row, i) {
  const td = row.children;
  put(td[0].firstChild, i.instance);
  put(td[1].firstChild, doing(i));
  td[1].lastChild.hidden = i.loaded === null;
  td[1].lastChild.value = i.loaded || 0;
  put(td[2], i.hold ? "" : `${i.processing} at work, ${i.leased} of ${i.slots} leased`);
  put(td[3], i.hold || i.phase !== "ready" ? "" : speed(i.speed));
  put(td[4], i.hold ? "" : [i.ctx, i.shares ? 0 : i.ctx_most].filter(Boolean).map(n => n.toLocaleString("en")).join(" of "));
  put(td[5], size(i.bytes));
  put(td[6], several(i.users));
  td[6].hidden = !admin;
  const [pin, stop] = td[7].firstChild.children;
  td[7].className = admin ? "" : "none";
  pin.hidden = !admin || i.hold;
  stop.hidden = !admin;
  put(pin, i.pinned ? "Unpin" : "Pin");
  pin.setAttribute("aria-label", `${i.pinned ? "Unpin" : "Pin"} ${i.instance}`);
  pin.onclick = () => act("pin", { instance: i.instance, pin: !i.pinned }, `${i.instance} is ${i.pinned ? "no longer pinned" : "pinned"}`);
  stop.setAttribute("aria-label", `Stop ${i.instance}`);
  stop.onclick = () => stopIt(i);
}

function instances(found) {
  sync($("instance-rows"), found, i => i.instance, () => {
    const row = cells(make("tr", { tabindex: "-1" }), ["Instance", "State", "Slots", "Tokens/s", "Context", "Memory", "For", "Actions"]);
    row.children[0].append(make("strong"));
    row.children[1].append(make("span"), make("progress", { max: "1", hidden: "", "aria-label": "loaded" }));
    row.children[7].append(make("div", { class: "acts" }, make("button", { type: "button" }), make("button", { type: "button", class: "bad" }, "Stop")));
    return row;
  }, instance);
  $("instance-users").hidden = !admin; /* whom they are for is told to administrators alone */
  $("no-instances").hidden = found.length > 0;
  $("instance-rows").parentElement.hidden = !found.length;
}

function stopIt(i) {
  put($("sure-text"), `Stop ${i.instance}${i.processing ? ", which is answering just now" : ""}? Its leases end with it.`);
  ask($("sure"), () => act("stop", { instance: i.instance }, `${i.instance} is stopping`));
}
