// Numbers along the axes of a chart: places among them, round ones, means.

/** The thing with the least cost. */
function closest(things, cost) {
  return things.reduce((best, one) => (cost(one) < cost(best) ? one : best));
}

/** How many of the rising numbers lie below x. */
function after(xs, x) {
  let [low, high] = [0, xs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The place of the rising number that is nearest to x. */
function nearest(xs, x) {
  const place = Math.min(after(xs, x), xs.length - 1);
  return place > 0 && x - xs[place - 1] < xs[place] - x ? place - 1 : place;
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
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, place) => (first + place) * step);
}

/** 1, 2 and 5 times the powers of ten between low and high; powers alone where there are many. */
function ticksByFactors(low, high) {
  const first = Math.floor(Math.log10(low));
  const powers = Array.from({ length: Math.floor(Math.log10(high)) - first + 1 }, (_, place) => 10 ** (first + place));
  const factors = high / low > 2000 ? [1] : [1, 2, 5];
  const within = powers.flatMap((power) => factors.map((factor) => factor * power)).filter((y) => y >= low && y <= high);
  return within.length > 1 ? within : ticks(low, high, 4);
}

/** The places from `from` to before `to` at which something holds, in stretches without a gap. */
function stretches(from, to, holds) {
  const found = [[]];
  for (let place = from; place < to; place += 1) {
    if (holds(place)) found.at(-1).push(place);
    else found.push([]);
  }
  return found;
}

/** The mean of the `width` numbers around each one; fewer at the ends. */
function smoothed(ys, width) {
  const sums = new Float64Array(ys.length + 1);
  ys.forEach((y, place) => (sums[place + 1] = sums[place] + y));
  return Float64Array.from(ys, (_, place) => {
    const from = Math.max(0, place - (width >> 1));
    const to = Math.min(ys.length, place - (width >> 1) + width);
    return (sums[to] - sums[from]) / (to - from);
  });
}

/** A place on a chart whose points are of `size` batches each, the last one of what is left of `x` batches. */
function upTo(x, size) {
  const here = x % size || size;
  return here > 1 ? `mean of ${whole(here)} batches up to batch ${whole(x)}` : `batch ${whole(x)}`;
}
