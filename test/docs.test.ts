import { inject, it } from "vitest"
import { writeSnippets } from "./tools/snippets.ts"

for (const { line, module, postgres, source } of writeSnippets()) {
  it(`${source}:${line}`, async () => {
    if (postgres) {
      const server = inject("postgres")
      if ("problem" in server) throw new Error(server.problem)
      process.env["DATABASE_URL"] = server.url
    }
    await import(/* @vite-ignore */ module)
  })
}
