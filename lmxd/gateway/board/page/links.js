/* Addresses of parts of the page: #models, #model/NAME, #instance/NAME, #try/NAME. They hold after a reload. */
let aimed = null;

function aim() {
  const [kind, ...rest] = location.hash.slice(1).split("/");
  let name = rest.join("/");
  try { name = decodeURIComponent(name); } catch { /* as it is */ }
  for (const e of document.querySelectorAll(".aimed-at")) e.classList.remove("aimed-at");
  if (kind === "try") {
    const found = latest && latest.models.find(m => m.model === name || m.aliases.includes(name));
    if (found) openTry({ ...found, model: name }); else if (latest) problem(`there is no model ${name}`);
    return;
  }
  if ($("try").open) $("try").close();
  const rows = { model: "model-rows", instance: "instance-rows" }[kind];
  const target = rows ? [...$(rows).children].find(row => row.dataset.id === name) : kind && document.querySelector(`h2[id="${CSS.escape(kind)}"]`);
  if (!target) return;
  if (rows) target.classList.add("aimed-at");
  target.scrollIntoView({ block: rows ? "center" : "start" });
  target.focus({ preventScroll: true });
}
/* The parts are not there before the first look at them. */
function aimOnce() {
  if (aimed === location.hash) return;
  aimed = location.hash;
  aim();
}
addEventListener("hashchange", () => { aimed = location.hash; aim(); });
