/* The last hour of a device at the most: an axis of time that says how long it is, and one of bytes. */
let timeline = [];
const LONGEST = 3600, GAP = 30, WIDE = 360, HIGH = 100;
const SPANS = [240, 1200, LONGEST];
const LAYERS = [["own", "models"], ["reclaiming", "reclaiming"], ["foreign", "foreign"], ["margin", "margin"]];

function remember(sample) {
  const last = timeline[timeline.length - 1];
  if (!last || last.at < sample.at) timeline = [...timeline, sample].slice(-LONGEST / 10);
}

function freshHistory() {
  const plot = make("div", { class: "plot" }, make("div", { class: "scale", "aria-hidden": "true" }, make("span"), make("span"), make("span", {}, "0")));
  const svg = drawn("svg", { class: "hour", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" });
  svg.append(drawn("rect", { class: "unknown", "data-id": "unknown", x: 0, y: 0, height: HIGH }));
  plot.append(svg, make("div", { class: "ticks" }), make("ul", { class: "legend" }));
  for (const [layer, name] of [...LAYERS, ["free", "free, or kept back"], ["unknown", "not recorded"]]) {
    const li = swatched();
    li.firstChild.className = layer === "unknown" ? layer : "is-" + layer;
    li.dataset.id = layer;
    put(li.lastChild, name);
    plot.lastChild.append(li);
  }
  return plot;
}

/* Where nothing was recorded for a while the picture ends, and begins anew. */
function runs(samples) {
  const found = [];
  for (const s of samples) {
    const run = found[found.length - 1];
    if (run && s.at - run[run.length - 1].at <= GAP) run.push(s); else found.push([s]);
  }
  return found;
}

function history(e, d, now) {
  const plot = e.querySelector(".plot"), svg = plot.querySelector("svg");
  const seen = timeline.filter(s => s.devices[d.id] && now - s.at <= LONGEST);
  const age = seen.length ? now - seen[0].at : 0;
  const span = SPANS.find(each => each >= age) || LONGEST;
  const x = at => WIDE * Math.max(0, 1 - (now - at) / span);
  const y = (s, n) => HIGH - HIGH * Math.min(1, s.devices[d.id].slice(0, n).reduce((a, b) => a + b, 0) / d.capacity);
  const drawnRuns = runs(seen).map(run => now - run[run.length - 1].at <= GAP ? [...run, { ...run[run.length - 1], at: now }] : run);
  const unknown = svg.querySelector(".unknown");
  unknown.setAttribute("width", (seen.length ? x(seen[0].at) : WIDE).toFixed(1));
  LAYERS.forEach(([name], n) => {
    const path = svg.children[n + 1] || svg.appendChild(drawn("path", { class: "is-" + name }));
    path.setAttribute("d", drawnRuns.map(run => {
      const up = run.map(s => `${x(s.at).toFixed(1)},${y(s, n + 1).toFixed(1)}`), down = run.map(s => `${x(s.at).toFixed(1)},${y(s, n).toFixed(1)}`).reverse();
      return `M${up.join("L")}L${down.join("L")}Z`;
    }).join(""));
  });
  const [whole, half] = plot.querySelector(".scale").children;
  put(whole, size(d.capacity));
  put(half, gib(d.capacity / 2));
  const ticks = [1, .75, .5, .25, 0].map(part => part ? `${Math.round(span * part / 60)} min` : "now");
  sync(plot.querySelector(".ticks"), ticks, t => t, () => make("span"), put);
  plot.querySelector("[data-id=reclaiming]").hidden = !seen.some(s => s.devices[d.id][1]);
  plot.querySelector("li[data-id=unknown]").hidden = seen.length > 0 && x(seen[0].at) < 4;
  const most = Math.max(0, ...seen.map(s => s.devices[d.id][0]));
  svg.setAttribute("aria-label", seen.length ? `${d.called}, the last ${time(age)}: at most ${size(most)} used by models` : `${d.called}: no history yet`);
  plot.hidden = Boolean(d.unavailable) && !seen.length;
}
