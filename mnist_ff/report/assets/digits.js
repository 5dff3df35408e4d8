// Prepares a drawn digit as MNIST's were: a port of mnist_ff/images/centre.py, step by step.

const SIDE = 28; // pixels: MNIST's images are 28 x 28
const BOX = 20; // pixels of the longer side of the digit in them
const TIE = 1e-9; // rounds ties up despite floating-point error; far below any difference of grey values

/**
 * Scale a digit's bounding box to 20 pixels and find where it lies in the 28 x 28 image: its centre of mass is central.
 *
 * ink: (height, width) numbers from 0 (paper) to 1 (ink), row by row. Returns the bounding box, the scaled pixels
 * `small` (rows, columns), and their `top` and `left` in the image; null for an empty drawing.
 */
function placed(ink, width, height) {
  const box = inkBox(ink, width, height);
  if (!box) return null;
  const [tall, wide] = [box.bottom - box.top, box.right - box.left];
  const scale = BOX / Math.max(tall, wide);
  const rows = Math.max(1, Math.floor(tall * scale + 0.5));
  const columns = Math.max(1, Math.floor(wide * scale + 0.5));
  const small = averaged(ink, width, box, rows, columns);
  const top = offset(rows, (row) => sum(columns, (column) => small[row * columns + column]));
  const left = offset(columns, (column) => sum(rows, (row) => small[row * columns + column]));
  return { box, rows, columns, small, top, left };
}

/** Prepare a digit as MNIST's were. Returns 28 * 28 bytes; zeros for an empty drawing. */
function centred(ink, width, height) {
  const field = new Uint8Array(SIDE * SIDE);
  const found = placed(ink, width, height);
  if (!found) return field;
  const { rows, columns, small, top, left } = found;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const grey = clamped(small[row * columns + column], 0, 1);
      field[(top + row) * SIDE + left + column] = Math.floor(grey * 255 + 0.5 + TIE);
    }
  }
  return field;
}

/** Prepare a drawing for data of another size: the whole field, scaled to (rows, columns) bytes by area averaging. */
function scaled(ink, width, height, columns, rows) {
  const means = averaged(ink, width, { top: 0, bottom: height, left: 0, right: width }, rows, columns);
  return Uint8Array.from(means, (mean) => Math.floor(clamped(mean, 0, 1) * 255 + 0.5 + TIE));
}

function inkBox(ink, width, height) {
  const box = { top: height, bottom: 0, left: width, right: 0 };
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      if (!ink[row * width + column]) continue;
      box.top = Math.min(box.top, row);
      box.bottom = row + 1;
      box.left = Math.min(box.left, column);
      box.right = Math.max(box.right, column + 1);
    }
  }
  return box.bottom ? box : null;
}

/** The box as rows x columns numbers, each the mean of what it covers: first down, then across. */
function averaged(ink, width, box, rows, columns) {
  const [tall, wide] = [box.bottom - box.top, box.right - box.left];
  const middle = new Float64Array(rows * wide);
  covers(tall, rows, (source, target, weight) => {
    for (let column = 0; column < wide; column += 1) {
      middle[target * wide + column] += weight * ink[(box.top + source) * width + box.left + column];
    }
  });
  const small = new Float64Array(rows * columns);
  covers(wide, columns, (source, target, weight) => {
    for (let row = 0; row < rows; row += 1) small[row * columns + target] += weight * middle[row * wide + source];
  });
  return small;
}

/** Say of each pixel of a target line which source pixels it covers, and their weights, which sum to 1. */
function covers(before, now, say) {
  for (let target = 0; target < now; target += 1) {
    const [left, right] = [(target * before) / now, ((target + 1) * before) / now];
    for (let source = Math.floor(left); source < Math.min(before, Math.ceil(right)); source += 1) {
      const covered = Math.max(0, Math.min(right, source + 1) - Math.max(left, source));
      say(source, target, covered * (now / before));
    }
  }
}

/** Where a line of masses begins, so that its centre, counted in whole pixels from 0, falls nearest to 14. */
function offset(length, mass) {
  const centre = sum(length, (index) => index * mass(index)) / sum(length, mass);
  return clamped(Math.floor(SIDE / 2 - centre + 0.5 + TIE), 0, SIDE - length);
}

function sum(length, term) {
  let total = 0;
  for (let index = 0; index < length; index += 1) total += term(index);
  return total;
}
