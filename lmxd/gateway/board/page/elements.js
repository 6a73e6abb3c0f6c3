/* Elements: found, made, and changed only where what they show has changed. All text goes in as text. */
const $ = id => document.getElementById(id);

function put(e, text) { if (e.textContent !== text) e.textContent = text; }

function make(tag, attributes = {}, ...inside) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...inside);
  return e;
}

function drawn(tag, attributes = {}) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

/* Elements stay as long as what they show does, so that focus and screen readers are not disturbed. */
function sync(parent, items, id, fresh, update) {
  const had = new Map([...parent.children].map(e => [e.dataset.id, e]));
  let at = null;
  for (const item of items) {
    const name = String(id(item));
    let e = had.get(name);
    if (e) had.delete(name); else { e = fresh(item); e.dataset.id = name; }
    update(e, item);
    const next = at ? at.nextSibling : parent.firstChild;
    if (next !== e) parent.insertBefore(e, next);
    at = e;
  }
  for (const e of had.values()) e.remove();
}

function cells(row, names) { for (const name of names) row.append(make("td", { "data-name": name })); return row; }

function say(text) { $("said").textContent = text; }
function said(body) { return typeof body.error === "string" ? body.error : body.error && body.error.message || "it failed"; }
function problem(text) { put($("problem"), text); $("problem").hidden = !text; }

/* A colored square and a text. */
function swatched() { return make("li", {}, make("i"), make("span")); }
