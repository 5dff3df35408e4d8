// The trained network: from an image's bytes to class probabilities, as mnist_ff/models/mlp.py computes them in
// evaluation mode, and to the saliency of each pixel.

const ACTIVATIONS = {
  /* rows of models/activations.py */
};
const SLOPES = {
  /* their derivatives */
};

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** The complement of the error function, to 1.2e-7 of its value (Press et al., Numerical Recipes, 2nd ed., 6.2). */
function erfc(x) {
  const t = 1 / (1 + Math.abs(x) / 2);
  const terms = [1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  const inner = -1.26551223 + t * terms.reduceRight((below, term) => term + t * below, 0);
  const value = t * Math.exp(-x * x + inner);
  return x >= 0 ? value : 2 - value;
}

/** Base64 of little-endian float16 to numbers (IEEE 754-2008, binary16). */
function halves(text) {
  const view = new DataView(bytes(text).buffer);
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits += 1) {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else table[bits] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }
  return Float32Array.from({ length: view.byteLength / 2 }, (_, index) => table[view.getUint16(2 * index, true)]);
}

/** Two functions of an image's bytes: `predict` returns class probabilities, `saliency` a gradient per pixel. */
function network(packed) {
  const [activate, slope] = [ACTIVATIONS[packed.activation], SLOPES[packed.activation]];
  const layers = packed.layers.map((layer) => ({ ...layer, weight: halves(layer.weight), bias: floats(layer.bias) }));

  /** Each layer's pre-activations; the last ones are the logits. */
  function forward(pixels) {
    let values = Float32Array.from(pixels, (pixel) => pixel / 255);
    return layers.map((layer) => {
      const sums = affine(layer, values);
      values = sums.map(activate);
      return sums;
    });
  }

  /** The gradient of the largest logit with respect to each pixel (0 to 1), by backpropagation. */
  function saliency(pixels) {
    const sums = forward(pixels);
    const logits = sums.pop();
    const best = logits.indexOf(Math.max(...logits));
    let gradient = Float32Array.from(logits, (_, unit) => Number(unit === best));
    for (let index = layers.length - 1; index >= 0; index -= 1) {
      gradient = transposed(layers[index], gradient);
      if (index) gradient = gradient.map((value, unit) => value * slope(sums[index - 1][unit]));
    }
    return gradient;
  }

  return { predict: (pixels) => softmax(forward(pixels).at(-1)), saliency };
}

/** values (out,) times weight (out, in). */
function transposed(layer, values) {
  const sums = new Float32Array(layer.in);
  values.forEach((value, unit) => {
    if (value === 0) return;
    const row = unit * layer.in;
    for (let index = 0; index < layer.in; index += 1) sums[index] += value * layer.weight[row + index];
  });
  return sums;
}

/** weight (out, in) times values, plus bias. Inputs that are zero, as most pixels and many units are, cost nothing. */
function affine(layer, values) {
  const lit = [];
  values.forEach((value, index) => value !== 0 && lit.push(index));
  return layer.bias.map((bias, unit) => {
    const row = unit * layer.in;
    let total = bias;
    for (const index of lit) total += layer.weight[row + index] * values[index];
    return total;
  });
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
