/** Masks as the server sends them, and the outlines that are drawn of them. */

const MOST_CELLS = 400_000;

/**
 * Run lengths, the first of pixels outside, as one byte a pixel.
 * @param {number[]} runs @param {number} cells @returns {Uint8Array}
 */
function decodeRuns(runs, cells) {
  const mask = new Uint8Array(cells);
  let at = 0;
  for (let i = 0; i < runs.length; i += 1) {
    if (i % 2) mask.fill(1, at, at + runs[i]);
    at += runs[i];
  }
  return mask;
}

/** Value and length pairs. @param {number[]} pairs @param {number} cells @returns {Uint16Array} */
export function decodePairs(pairs, cells) {
  const ids = new Uint16Array(cells);
  let at = 0;
  for (let i = 0; i < pairs.length; i += 2) {
    ids.fill(pairs[i], at, at + pairs[i + 1]);
    at += pairs[i + 1];
  }
  return ids;
}

/** Every `step`-th pixel of every `step`-th row. */
function thinned(mask, width, height, step) {
  const w = Math.ceil(width / step);
  const hgt = Math.ceil(height / step);
  const thin = new Uint8Array(w * hgt);
  for (let y = 0; y < hgt; y += 1)
    for (let x = 0; x < w; x += 1) thin[y * w + x] = mask[y * step * width + x * step];
  return { mask: thin, width: w, height: hgt };
}

const STEP_X = [1, 0, -1, 0];
const STEP_Y = [0, 1, 0, -1];

/** Which sides of the pixels at a grid point belong to the border: bit 0 right, 1 down, 2 left, 3 up. */
function borderSides(mask, width, height) {
  const stride = width + 1;
  const sides = new Uint8Array(stride * (height + 1));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const cell = y * width + x;
      if (!mask[cell]) continue;
      const corner = y * stride + x;
      if (y === 0 || !mask[cell - width]) sides[corner] |= 1;
      if (x === width - 1 || !mask[cell + 1]) sides[corner + 1] |= 2;
      if (y === height - 1 || !mask[cell + width]) sides[corner + stride + 1] |= 4;
      if (x === 0 || !mask[cell - 1]) sides[corner + stride] |= 8;
    }
  }
  return sides;
}

/** Where the border goes on. Where two pixels touch only at a corner, the right turn keeps them apart. */
function following(sides, direction) {
  for (const turn of [1, 0, 3]) {
    const next = (direction + turn) % 4;
    if (sides & (1 << next)) return next;
  }
  return direction;
}

/**
 * The border of a mask as closed lines, with holes: one path serves for the fill and for the outline, and
 * stays sharp at any zoom. It runs through the middles of the pixels' sides, which cuts the corners of
 * stairs.
 * @param {Uint8Array} mask
 * @param {number} width
 * @param {number} height
 * @returns {Path2D} in pixels of the crop
 */
export function outlinePath(mask, width, height) {
  const scale = Math.ceil(Math.sqrt((width * height) / MOST_CELLS));
  if (scale > 1) ({ mask, width, height } = thinned(mask, width, height, scale));
  const stride = width + 1;
  const sides = borderSides(mask, width, height);
  const path = new Path2D();
  for (let start = 0; start < sides.length; start += 1) {
    while (sides[start] & 1) {
      let at = start;
      let x = start % stride;
      let y = (start - x) / stride;
      let direction = 0;
      let turned = true;
      path.moveTo((x + 0.5) * scale, y * scale);
      do {
        sides[at] &= ~(1 << direction);
        const middleX = x + STEP_X[direction] / 2;
        const middleY = y + STEP_Y[direction] / 2;
        x += STEP_X[direction];
        y += STEP_Y[direction];
        at = y * stride + x;
        const next = following(sides[at], direction);
        // In the midst of a straight line no point is needed.
        if (turned || next !== direction) path.lineTo(middleX * scale, middleY * scale);
        turned = next !== direction;
        direction = next;
      } while (at !== start);
      path.closePath();
    }
  }
  return path;
}

/** The outline of a card's mask. @param {Object} card with `crop` and `runs` @returns {Path2D} */
export function cardPath({ crop: [x0, y0, x1, y1], runs }) {
  const width = x1 - x0;
  const height = y1 - y0;
  return outlinePath(decodeRuns(runs, width * height), width, height);
}
