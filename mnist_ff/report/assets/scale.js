// Numbers along the axes of a chart: search, ticks, moving averages.

/** The item with the least cost. */
function closest(items, cost) {
  return items.reduce((best, one) => (cost(one) < cost(best) ? one : best));
}

/** The number of values below x, in ascending xs. */
function countBelow(xs, x) {
  let [low, high] = [0, xs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The index of the value nearest to x, in ascending xs. */
function nearest(xs, x) {
  const index = Math.min(countBelow(xs, x), xs.length - 1);
  return index > 0 && x - xs[index - 1] < xs[index] - x ? index - 1 : index;
}

/** Round numbers between low and high, about `count` of them. */
function ticks(low, high, count, wholeOnly = false) {
  const rough = (high - low) / clamped(count, 2, 10);
  const power = 10 ** Math.floor(Math.log10(rough));
  const sizes = [1, 2, 5, 10].map((factor) => factor * power);
  const found = multiples(low, high, sizes.find((size) => size >= rough * 0.999), wholeOnly);
  return found.length > 1 ? found : multiples(low, high, sizes.findLast((size) => size <= rough * 1.001), wholeOnly);
}

/** The multiples of a size between low and high. */
function multiples(low, high, size, wholeOnly) {
  const step = wholeOnly ? Math.max(1, Math.round(size)) : size;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, index) => (first + index) * step);
}

/** 1, 2 and 5 times the powers of ten between low and high; the powers alone for a wide range. */
function ticksByFactors(low, high) {
  const first = Math.floor(Math.log10(low));
  const powers = Array.from({ length: Math.floor(Math.log10(high)) - first + 1 }, (_, index) => 10 ** (first + index));
  const factors = high / low > 2000 ? [1] : [1, 2, 5];
  const within = powers.flatMap((power) => factors.map((factor) => factor * power)).filter((y) => y >= low && y <= high);
  return within.length > 1 ? within : ticks(low, high, 4);
}

/** The indices from `from` to before `to` at which something holds, in stretches without a gap. */
function stretches(from, to, holds) {
  const found = [[]];
  for (let index = from; index < to; index += 1) {
    if (holds(index)) found.at(-1).push(index);
    else found.push([]);
  }
  return found;
}

/** The moving average over `width` values, centred; over fewer at the ends. */
function smoothed(ys, width) {
  const sums = new Float64Array(ys.length + 1);
  ys.forEach((y, index) => (sums[index + 1] = sums[index] + y));
  return Float64Array.from(ys, (_, index) => {
    const from = Math.max(0, index - (width >> 1));
    const to = Math.min(ys.length, index - (width >> 1) + width);
    return (sums[to] - sums[from]) / (to - from);
  });
}

/** The words for a point at batch x, where each point is the mean of `size` batches; the last one may be of fewer. */
function upTo(x, size) {
  const here = x % size || size;
  return here > 1 ? `mean of ${whole(here)} batches up to batch ${whole(x)}` : `batch ${whole(x)}`;
}
