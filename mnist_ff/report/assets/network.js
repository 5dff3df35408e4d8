// The trained network: an image's bytes to the probability of each class, as mnist_ff/models/mlp.py computes them with dropout off.

const ACTIVATIONS = {
  /* rows of models/activations.py */
};

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
  return Float32Array.from({ length: view.byteLength / 2 }, (_, place) => table[view.getUint16(2 * place, true)]);
}

/** A function from an image's bytes to the probability of each class. */
function network(packed) {
  const activate = ACTIVATIONS[packed.activation];
  const layers = packed.layers.map((layer) => ({ ...layer, weight: halves(layer.weight), bias: floats(layer.bias) }));
  return (pixels) => {
    let values = Float32Array.from(pixels, (pixel) => pixel / 255);
    layers.forEach((layer, place) => {
      values = affine(layer, values);
      if (place < layers.length - 1) values = values.map(activate);
    });
    return softmax(values);
  };
}

/** weight (out, in) times values, plus bias. Inputs that are zero, as most pixels and many units are, cost nothing. */
function affine(layer, values) {
  const lit = [];
  values.forEach((value, place) => value !== 0 && lit.push(place));
  return layer.bias.map((bias, unit) => {
    const row = unit * layer.in;
    let total = bias;
    for (const place of lit) total += layer.weight[row + place] * values[place];
    return total;
  });
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
