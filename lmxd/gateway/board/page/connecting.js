/* How a program of one's own asks a model. The key is never shown: it stands as a variable. */
const BASE = location.origin + location.pathname.replace(/\/+$/, "");
const quoted = text => JSON.stringify(text);
const WAYS = {
  "any, by its environment": () => `export OPENAI_BASE_URL=${BASE}/v1\nexport OPENAI_API_KEY=$LMXD_KEY`,
  "curl": name => `curl -s ${BASE}/v1/chat/completions -H "Authorization: Bearer $LMXD_KEY" \\\n  -d '${JSON.stringify({ model: name, messages: [{ role: "user", content: "Hello" }] })}'`,
  "Python, openai": name => `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${quoted(BASE + "/v1")}, api_key=os.environ["LMXD_KEY"])\nanswer = client.chat.completions.create(\n    model=${quoted(name)}, messages=[{"role": "user", "content": "Hello"}]\n)\nprint(answer.choices[0].message.content)`,
  "Python, ollama": name => `import os\nfrom ollama import Client\n\nclient = Client(host=${quoted(BASE)}, headers={"Authorization": "Bearer " + os.environ["LMXD_KEY"]})\nprint(client.chat(${quoted(name)}, [{"role": "user", "content": "Hello"}]).message.content)`,
  "Claude Code, Anthropic's clients": name => `export ANTHROPIC_BASE_URL=${BASE}\nexport ANTHROPIC_AUTH_TOKEN=$LMXD_KEY\nexport ANTHROPIC_MODEL=${name}`,
};

function connecting(found) {
  sync($("connect-model"), found.length ? found.map(m => m.model) : ["MODEL"], name => name, name => make("option", { value: name }), put);
  sync($("connect-how"), Object.keys(WAYS), name => name, name => make("option", { value: name }), put);
  put($("openai-url"), BASE + "/v1");
  put($("ollama-url"), BASE);
  put($("connect-text"), WAYS[$("connect-how").value]($("connect-model").value));
}
for (const id of ["connect-model", "connect-how"]) $(id).addEventListener("change", () => put($("connect-text"), WAYS[$("connect-how").value]($("connect-model").value)));

$("connect-copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("connect-text").textContent);  // only where the page came by HTTPS, or is this machine's
    say("copied");
  } catch {
    getSelection().selectAllChildren($("connect-text"));
    say("selected: copy it with your keys");
  }
});
