/* Requests of late: an administrator sees everybody's, others those of their own key. */
const ENDS = { 200: "answered", 400: "bad request", 401: "no key", 403: "not permitted", 404: "not known", 413: "too large", 429: "no room", 499: "client left", 502: "engine failed", 503: "stopped" };

function request(row, r) {
  const td = row.children, at = new Date(1000 * r.at);
  put(td[0].firstChild, at.toLocaleTimeString("en-GB"));
  td[0].firstChild.dateTime = at.toISOString();
  td[0].firstChild.title = at.toLocaleString("en-GB");
  const [name, path, prompt] = td[1].firstChild.children;
  put(name, r.model);
  put(path, ` ${r.path}`);
  put(prompt, r.prompt || "");
  put(td[2], r.key || "none");
  put(td[3], brief(r.waited));
  put(td[4], brief(r.took));
  const counts = [r.asked === null ? "" : `${r.asked.toLocaleString("en")} in`, r.answered === null ? "" : `${r.answered.toLocaleString("en")} out`];
  put(td[5], counts.filter(Boolean).join(", "));
  put(td[6].firstChild, `${r.status} ${ENDS[r.status] || (r.status < 400 ? "answered" : "failed")}`);
  td[6].firstChild.className = r.status < 400 ? "" : "error";
}

function requests(found) {
  sync($("request-rows"), found, r => r.number, () => {
    const row = cells(make("tr"), ["Time", "Model", "Key", "Waited", "Took", "Tokens", "Status"]);
    row.children[0].append(make("time"));
    row.children[1].append(make("div", {}, make("strong"), make("span", { class: "dim small" }), make("span", { class: "why" })));
    row.children[6].append(make("span"));
    return row;
  }, request);
  $("no-requests").hidden = found.length > 0;
  $("request-rows").closest(".scroll").hidden = !found.length;
}
