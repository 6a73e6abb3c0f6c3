// OpenAI's, Anthropic's and Vercel's clients for Node do what their users do, and print what came of it as JSON.
const [modules, url, key] = process.argv.slice(2)
const { createRequire } = await import('node:module')
const { pathToFileURL } = await import('node:url')
const require = createRequire(`${modules}/x.js`)
const from = async (name) => import(pathToFileURL(require.resolve(name)).href)
const { default: OpenAI } = await from('openai')
const { default: Anthropic } = await from('@anthropic-ai/sdk')
const { generateText, streamText, generateObject, embed } = await from('ai')
const { createOpenAI } = await from('@ai-sdk/openai')
const { createOpenAICompatible } = await from('@ai-sdk/openai-compatible')
const { createAnthropic } = await from('@ai-sdk/anthropic')
const { z } = await from('zod')
const model = 'smollm2'
const failed = async (call) => {
  try {
    await call()
    return 'no error'
  } catch (error) {
    return `${error.status ?? error.statusCode} ${error.message}`
  }
}
const messages = [{ role: 'user', content: 'Say hello.' }]
const gpt = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 })
const claude = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 })
const providers = {
  compatible: createOpenAICompatible({ name: 'lmxd', baseURL: `${url}/v1`, apiKey: key, supportsStructuredOutputs: true }),
  responses: createOpenAI({ baseURL: `${url}/v1`, apiKey: key }),
  anthropic: createAnthropic({ baseURL: `${url}/v1`, apiKey: key }),
}
const said = async (provider, structured) => {
  const asked = { model: provider(model), prompt: 'Say hello.', maxOutputTokens: 16, maxRetries: 0 }
  let streamed = ''
  let problem = null
  const stream = streamText({ ...asked, onError: ({ error }) => { problem = String(error) } })
  for await (const part of stream.textStream) streamed += part
  const city = z.object({ city: z.enum(['Paris', 'Rome']) })
  return {
    text: (await generateText(asked)).text,
    streamed,
    problem,
    city: structured ? (await generateObject({ ...asked, schema: city, maxOutputTokens: 200 })).object.city : 'Rome',
    unknown: await failed(() => generateText({ ...asked, model: provider('none') })),
  }
}
const vercel = {}
for (const [name, provider] of Object.entries(providers)) vercel[name] = await said(provider, name !== 'anthropic')
console.log(JSON.stringify({
  chat: (await gpt.chat.completions.create({ model, messages, max_tokens: 8 })).choices[0].message.content,
  response: (await gpt.responses.stream({ model, input: 'Say hello.', max_output_tokens: 16 }).finalResponse()).output_text,
  wrong: await failed(() => gpt.chat.completions.create({ model, messages, tools: 3 })),
  message: await claude.messages.stream({ model, messages, max_tokens: 8 }).finalText(),
  models: (await claude.models.list()).data.map((found) => found.display_name),
  nobody: await failed(() => claude.messages.create({ model: 'none', messages, max_tokens: 8 })),
  width: (await embed({ model: providers.compatible.textEmbeddingModel('embed'), value: 'a' })).embedding.length,
  vercel,
}))
