// ollama's own client for Node does what its users do, and prints what came of it as JSON.
const [library, host, key] = process.argv.slice(2)
const { Ollama } = await import(library)
const client = new Ollama({ host, headers: { Authorization: `Bearer ${key}` } })
const model = 'smollm2'
const asked = { model, messages: [{ role: 'user', content: 'Say hello.' }], options: { num_predict: 6 } }
const failed = async (call) => {
  try {
    await call()
    return 'no error'
  } catch (error) {
    return `${error.status_code} ${error.message}`
  }
}
let streamed = 0
for await (const part of await client.chat({ ...asked, stream: true })) streamed += part.message ? 1 : 0
console.log(JSON.stringify({
  names: (await client.list()).models.map((found) => found.name),
  abilities: (await client.show({ model })).capabilities,
  content: (await client.chat(asked)).message.content,
  streamed,
  widths: (await client.embed({ model: 'embed', input: ['a', 'b'] })).embeddings.map((found) => found.length),
  running: (await client.ps()).models.map((found) => found.name),
  pulled: (await client.pull({ model })).status,
  unknown: await failed(() => client.chat({ ...asked, model: 'none' })),
  deleted: await failed(() => client.delete({ model })),
  unloaded: (await client.generate({ model, prompt: '', keep_alive: 0 })).done_reason,
}))
