// Where lines and marks of a chart stand. Pure.

/** Marks of the upright axis from zero to at least `max`: at most `count + 1`, on round numbers. */
export function marks(max: number, count = 4): number[] {
  if (!(max > 0)) return [0, 1];
  const rough = max / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? 10 * power;
  // Counts have no halves.
  const whole = Number.isInteger(max) ? Math.max(1, Math.ceil(step)) : step;
  return Array.from({ length: Math.ceil(max / whole) + 1 }, (_, index) => index * whole);
}

/** Which of `count` places have a label, where so many fit: evenly, from the first. */
export function labelled(count: number, fit: number): number[] {
  const step = Math.max(1, Math.ceil(count / Math.max(1, fit)));
  return Array.from({ length: Math.ceil(count / step) }, (_, index) => index * step);
}

/** The line through numbers, as an SVG path. */
export function pathOf(numbers: number[], x: (index: number) => number, y: (value: number) => number): string {
  return numbers.map((value, index) => `${index === 0 ? 'M' : 'L'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join('');
}

/** The place that is nearest to a part of the width, from 0 to 1. */
export function nearest(part: number, count: number): number {
  return Math.min(count - 1, Math.max(0, Math.round(part * (count - 1))));
}
