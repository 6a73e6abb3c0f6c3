/* The queue: who waits, how long, and for what. Where few wait, each says all of it. */
const FEW = 4;

function turn(x) {
  const until = x.unused ? `is leased, but unused: until that lease ends, in ${time(x.closes_in)} at the latest` : x.closes_in > 0 ? `serves others for up to ${time(x.closes_in)} more` : "finishes what it does";
  return `${x.instance} ${until} (a swap: ${x.price.toFixed(1)} s of loading)`;
}

const MOST = 2;

/* In a few words; all of it is told on demand, for fifty may wait. */
function inShort(t) {
  if (t.instance) return `starts as ${t.instance}`;
  const quota = t.waits_for.find(name => name.includes(" "));  // a sentence of its own
  if (quota) return quota;
  const lack = t.why.length ? [`needs ${size(Math.max(...t.why.map(w => w.need)))} of ${t.why.map(w => w.device).join(t.alternatives ? " or " : " and ")}`] : [];
  return [...lack, ...(t.waits_for.length ? [`waits for ${several(t.waits_for, MOST)}`] : [])].join("; ") || "waits";
}

function reasons(t) {
  const lacks = t.why.map(w => w.unavailable ? `${w.device} is unavailable` : `needs ${size(w.need)} of ${w.device}, where ${size(Math.max(0, w.have))} are free`);
  const turns = t.turns.length > 3 ? [`${t.turns.length} instances are in use by others, for ${time(Math.max(...t.turns.map(x => x.closes_in)))} more at the most`] : t.turns.map(turn);
  const others = t.waits_for.length > MOST ? [`waits for ${t.waits_for.join(", ")}`] : [];
  return [...turns, ...(lacks.length ? [lacks.join(t.alternatives ? ", or " : ", and ")] : []), ...others].join("; ");
}

function ticket(row, t) {
  const td = row.children, [model, who, why] = td[1].firstChild.children, told = reasons(t);
  put(td[0], t.position ? String(t.position) : "starting");
  put(model, t.model || size(t.bytes));
  put(who, t.user ? ` for ${t.user}` : "");
  why.className = told ? "" : "bare";
  put(why.firstChild, inShort(t));
  put(why.lastChild, told);
  put(td[2], time(t.waited));
  put(td[3], t.eta === null ? "" : "in " + time(t.eta));
}

function queue(tickets) {
  sync($("queue-rows"), tickets, t => t.ticket || `${t.position} ${t.bytes}`, () => {
    const row = cells(make("tr"), ["Place", "Model", "Waited", "Expected"]);
    row.children[1].append(make("div", {}, make("strong"), make("span", { class: "dim" }), make("details", tickets.length <= FEW ? { open: "" } : {}, make("summary"), make("span", { class: "why" }))));
    return row;
  }, ticket);
  $("no-queue").hidden = tickets.length > 0;
  $("queue-rows").closest(".scroll").hidden = !tickets.length;
}
