/** Curves as text and as SVG. */

/** What was measured at each `x`, for each of the lines. */
export interface Curve {
  readonly name: string
  readonly title: string
  readonly x: { readonly label: string; readonly values: ReadonlyArray<number> }
  readonly y: { readonly label: string; readonly lines: Readonly<Record<string, ReadonlyArray<number>>> }
}

/** 0 and 1 are one step apart, and so is each from ten times itself: all of these curves go over powers of ten. */
const log = (x: number): number => Math.log10(x + 0.1)

const scale = (values: ReadonlyArray<number>): (x: number) => number => {
  const [first, last] = [log(values[0]!), log(values.at(-1)!)]
  return (x) => first === last ? 0 : (log(x) - first) / (last - first)
}

export const shortened = (value: number): string =>
  value >= 1e6
    ? `${+(value / 1e6).toPrecision(3)}M`
    : value >= 1e4
    ? `${+(value / 1e3).toPrecision(3)}k`
    : `${Math.round(value)}`

const highest = ({ y }: Curve): number => Math.max(...Object.values(y.lines).flat())

/** A height that is a round number. */
const roundUp = (value: number): number => {
  const unit = 10 ** Math.floor(Math.log10(value))
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].find((step) => step * unit >= value)! * unit
}

const width = 64
const height = 14

/** One letter for each line, in the order of their names below. */
export const textPlot = (curve: Curve): string => {
  const { lines } = curve.y
  const top = roundUp(highest(curve))
  const at = scale(curve.x.values)
  const grid = Array.from({ length: height + 1 }, () => Array.from({ length: width + 1 }, () => " "))
  for (const [line, values] of Object.values(lines).entries()) {
    for (const [index, value] of values.entries()) {
      const row = grid[height - Math.round(value / top * height)]!
      const column = Math.round(at(curve.x.values[index]!) * width)
      row[column] = row[column] === " " ? letterOf(line) : "*"
    }
  }
  const margin = shortened(top).length
  const rows = grid.map((cells, row) => {
    const label = row % 7 === 0 ? shortened(top * (height - row) / height) : ""
    return `${label.padStart(margin)} |${cells.join("")}`.trimEnd()
  })
  const ticks = Array.from({ length: width + 8 }, () => " ")
  for (const x of curve.x.values) {
    for (const [index, character] of Array.from(shortened(x)).entries()) {
      ticks[Math.round(at(x) * width) + index] = character
    }
  }
  const indent = " ".repeat(margin + 2)
  const key = Object.keys(lines).map((name, line) => `${letterOf(line)} ${name}`).join(", ")
  return [
    `${curve.title} (${curve.y.label})`,
    ...rows,
    `${" ".repeat(margin)} +${"-".repeat(width + 1)}`,
    `${indent}${ticks.join("").trimEnd()}  ${curve.x.label}`,
    `${indent}${key}`
  ].join("\n")
}

const letterOf = (line: number): string => String.fromCharCode("a".charCodeAt(0) + line)

/** The numbers of a curve, a column for each `x`. */
export const numbers = (curve: Curve): string => {
  const { lines } = curve.y
  const rows = [
    [curve.x.label, ...curve.x.values.map(shortened)],
    ...Object.entries(lines).map(([name, values]) => [name].concat(values.map(shortened)))
  ]
  const first = Math.max(...rows.map((row) => row[0]!.length))
  return rows.map(([name, ...cells]) => `  ${name!.padEnd(first)}${cells.map((cell) => cell.padStart(8)).join("")}`)
    .join("\n")
}

// Told apart also by those who do not see all colours; they stand on white and on black.
const colours = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#999999"]

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\"", "&quot;")

/** A plain picture of one curve. */
export const svgPlot = (curve: Curve): string => {
  const [left, top, right, bottom] = [70, 40, 560, 300]
  const most = roundUp(highest(curve))
  const at = scale(curve.x.values)
  const xOf = (x: number): string => (left + at(x) * (right - left)).toFixed(1)
  const yOf = (y: number): string => (bottom - y / most * (bottom - top)).toFixed(1)
  const text = (x: number | string, y: number | string, anchor: string, content: string, fill = "#808080"): string =>
    `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="${fill}">${escaped(content)}</text>`
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => {
    const y = yOf(part * most)
    return [
      `<line x1="${left}" y1="${y}" x2="${right}" y2="${y}" stroke="#808080" stroke-opacity="0.25"/>`,
      text(left - 8, Number(y) + 4, "end", shortened(part * most))
    ]
  })
  const ticks = curve.x.values.map((x) => text(xOf(x), bottom + 18, "middle", shortened(x)))
  const ends = spread(Object.values(curve.y.lines).map((values) => Number(yOf(values.at(-1)!))))
  const lines = Object.entries(curve.y.lines).flatMap(([name, values], index) => {
    const colour = colours[index % colours.length]!
    const points = values.map((y, place) => `${xOf(curve.x.values[place]!)},${yOf(y)}`).join(" ")
    return [
      `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      text(right + 8, ends[index]! + 4, "start", name, colour)
    ]
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 340" font-family="sans-serif" font-size="12" role="img">`,
    `<title>${escaped(curve.title)}</title>`,
    text(left, 20, "start", `${curve.title}: ${curve.y.label}`),
    ...grid,
    ...ticks,
    text(right, bottom + 34, "end", curve.x.label),
    ...lines,
    "</svg>",
    ""
  ].join("\n")
}

/** Labels at these heights, moved down as far as they would cover one another. */
const spread = (heights: ReadonlyArray<number>): ReadonlyArray<number> => {
  const moved = Array.from(heights)
  let last = -Infinity
  for (const index of Array.from(heights.keys()).sort((a, b) => heights[a]! - heights[b]!)) {
    last = moved[index] = Math.max(heights[index]!, last + 14)
  }
  return moved
}
