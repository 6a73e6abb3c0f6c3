/* Figures as people read them. Bytes are always GiB, as in lmxctl. */
const GIB = 2 ** 30;

function gib(n) { return n > 0 && n < GIB / 200 ? "<0.01" : (n / GIB).toFixed(n >= 10 * GIB ? 1 : 2); }
function size(n) { return gib(n) + " GiB"; }

function time(s) {
  if (s === null || s === undefined) return "";
  s = Math.max(0, Math.round(s));
  const [whole, part, large, small] = s < 3600 ? [Math.floor(s / 60), s % 60, "min", "s"] : [Math.floor(s / 3600), Math.floor(s % 3600 / 60), "h", "min"];
  return [whole ? `${whole} ${large}` : "", part || !whole ? `${part} ${small}` : ""].filter(Boolean).join(" ");
}
/* Times of requests, most of which take less than a second. */
function brief(s) { return s === null ? "" : s < 10 ? s.toFixed(2) + " s" : time(s); }

function counted(n, what) { return n === 1 ? `1 ${what}` : `${n} ${what}s`; }
function several(names, most = 3) { return names.length <= most ? names.join(", ") : `${names.slice(0, most).join(", ")} and ${names.length - most} more`; }
function speed(n) { return n.toFixed(n < 10 ? 1 : 0); }
