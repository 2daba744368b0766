/** Small pictures of masks side by side, as the grid and the spread show them. */

import * as api from "./api.js";
import { h } from "./dom.js";
import { cardPath } from "./masks.js";
import { fitCanvas, strokeTwice } from "./viewer.js";

const ENLARGED = 1.4;
const MARGIN = 1.2;

/** The picture fills the tile, unless that would cut off some of the mask. */
function tileScale({ width, height }, { crop: [x0, y0, x1, y1], box: [left, top, right, bottom] }) {
  const fits = Math.min(width / (x1 - x0), height / (y1 - y0));
  const fills = Math.max(width / (x1 - x0), height / (y1 - y0));
  const shows = Math.min(width / (right - left), height / (bottom - top)) / MARGIN;
  return Math.max(fits, Math.min(fills, shows));
}

/** Where a picture begins, so that `middle` is in the middle as far as the picture reaches. */
function offset(space, size, middle) {
  if (size <= space) return (space - size) / 2;
  return Math.min(0, Math.max(space - size, space / 2 - middle));
}

/** A canvas that loads and draws its picture once it comes into sight. */
export class Tile {
  /** @param {Object} card with crop, runs and image */
  constructor(card) {
    this.card = card;
    this.bitmap = null;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.canvas.tile = this;
    watcher.observe(this.canvas);
    sizes.observe(this.canvas);
  }

  async load() {
    if (this.bitmap || this.loading) return;
    this.loading = true;
    const side = Math.max(this.canvas.clientWidth, this.canvas.clientHeight) * (window.devicePixelRatio || 1);
    try {
      this.bitmap = await api.picture(api.cropUrl(this.card.image, this.card.crop, side * ENLARGED));
      this.draw();
    } catch {
      this.canvas.parentElement?.classList.add("failed");
    }
    this.loading = false;
  }

  draw() {
    const { canvas, bitmap, card } = this;
    if (!bitmap || !canvas.clientWidth) return;
    this.path ??= cardPath(card);
    const ratio = fitCanvas(canvas);
    const [x0, y0, x1, y1] = card.crop;
    const [left, top, right, bottom] = card.box;
    const scale = tileScale(canvas, card);
    const context = canvas.getContext("2d");
    context.setTransform(
      scale,
      0,
      0,
      scale,
      offset(canvas.width, (x1 - x0) * scale, ((left + right) / 2 - x0) * scale),
      offset(canvas.height, (y1 - y0) * scale, ((top + bottom) / 2 - y0) * scale),
    );
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, x1 - x0, y1 - y0);
    strokeTwice(context, this.path, (0.75 * ratio) / scale);
  }

  /** It is taken off the page. */
  close() {
    watcher.unobserve(this.canvas);
    sizes.unobserve(this.canvas);
    this.bitmap?.close();
  }
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) target.tile.load();
  },
  { rootMargin: "200px" },
);

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) target.tile.draw();
});
