/**
 * The picture of a question: crop, mask, outline, inset. Drawing is synchronous; pictures are decoded
 * before.
 */

/** Yellow of Okabe and Ito: on a dark line it shows on any picture. */
export const CONTRAST = "#f0e442";
const LEAST_ZOOM = 0.5;
const MOST_ZOOM = 24;
const PAN_STEP = 60;

/**
 * The outline: light on dark, so that it shows on any picture. `unit` is one CSS pixel in the path's units.
 */
export function strokeTwice(context, path, unit, inner = "#fff") {
  context.lineJoin = "round";
  context.strokeStyle = "rgba(0, 0, 0, 0.85)";
  context.lineWidth = 4 * unit;
  context.stroke(path);
  context.strokeStyle = inner;
  context.lineWidth = 2 * unit;
  context.stroke(path);
}

/** The canvas has as many pixels as the screen gives it. @returns {number} device pixels to a CSS pixel */
export function fitCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return ratio;
}

/** A range widened to `wanted`, both sides alike, as far as 0 to `most` reaches. */
function widened(from, to, wanted, most) {
  const start = Math.max(0, Math.min(from, Math.round((from + to - wanted) / 2), Math.floor(most - wanted)));
  return [start, Math.min(most, Math.max(to, Math.round(start + wanted)))];
}

/**
 * Draws one `Ready` on a canvas, with zoom and pan. Events: `zoom`, `resize`, `swipe` (detail: left or
 * right), `tap` (detail: x, y).
 */
export class Viewer extends EventTarget {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{swipes: boolean, reserved: number}} options whether fingers swipe; CSS pixels kept clear at
   * the bottom
   */
  constructor(canvas, { swipes = false, reserved = 0 } = {}) {
    super();
    this.canvas = canvas;
    this.reserved = reserved;
    this.context = canvas.getContext("2d");
    this.swipes = swipes;
    this.look = { overlay: "fill", opacity: 35, colour: CONTRAST, inset: true };
    this.ready = null;
    this.paintOver = null;
    this.ratio = fitCanvas(canvas);
    this.reset();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.#listen();
  }

  /** @param {Object|null} ready */
  show(ready) {
    this.ready = ready;
    this.reset();
    this.draw();
  }

  /** Whole crop in view. */
  reset() {
    this.zoom = 1;
    this.panX = 0;
    this.panY = 0;
  }

  resize() {
    if (!this.canvas.clientWidth) return;
    const before = `${this.canvas.width} ${this.canvas.height}`;
    this.ratio = fitCanvas(this.canvas);
    this.draw();
    if (before !== `${this.canvas.width} ${this.canvas.height}`) this.dispatchEvent(new Event("resize"));
  }

  /**
   * What of a card's image fills the canvas, and the device pixels on its long side: what is worth asking
   * for.
   * @returns {{region: number[], size: number}}
   */
  viewOf(card) {
    const { width, height } = this.canvas;
    const [x0, y0, x1, y1] = card.crop;
    const scale = this.#scaleOf(card);
    const [left, right] = widened(x0, x1, width / scale, card.width);
    const belowMask = Math.min(card.height, Math.round(y1 + (this.reserved * this.ratio) / scale));
    const [top, bottom] = widened(y0, belowMask, height / scale, card.height);
    return { region: [left, top, right, bottom], size: Math.max(right - left, bottom - top) * scale };
  }

  /** Device pixels on the long side of a region as it is shown now. */
  pixelsOf([x0, y0, x1, y1]) {
    return Math.max(x1 - x0, y1 - y0) * this.#frame().scale;
  }

  /** Device pixels to a pixel of the image when the whole crop is in view, clear of the tools. */
  #scaleOf({ crop: [x0, y0, x1, y1] }) {
    const { width, height } = this.canvas;
    return Math.min(width / (x1 - x0), Math.max(1, height - this.reserved * this.ratio) / (y1 - y0));
  }

  /** The scale as zoomed, and where the crop's corner lies. */
  #frame() {
    const {
      card,
      region: [left, top, right, bottom],
    } = this.ready;
    const [x0, y0] = card.crop;
    const { width, height } = this.canvas;
    const scale = this.#scaleOf(card);
    // From the middle of the canvas, as zoom leaves the middle where it is.
    const fromX = -((right + left) / 2 - x0) * scale;
    const fromY = -((bottom + top) / 2 - y0) * scale;
    const clear = Math.min(
      0,
      height / 2 - (this.reserved + 8) * this.ratio - fromY - (card.box[3] - y0) * scale,
    );
    return {
      scale: scale * this.zoom,
      left: width / 2 + fromX * this.zoom + this.panX * this.ratio,
      top: height / 2 + (fromY + clear) * this.zoom + this.panY * this.ratio,
      x0,
      y0,
    };
  }

  /** Where on the image a place of the canvas is. @returns {number[]} x, y in image pixels */
  imagePoint(clientX, clientY) {
    const { scale, left, top, x0, y0 } = this.#frame();
    const rect = this.canvas.getBoundingClientRect();
    const x = ((clientX - rect.left) * this.ratio - left) / scale + x0;
    const y = ((clientY - rect.top) * this.ratio - top) / scale + y0;
    return [Math.floor(x), Math.floor(y)];
  }

  draw() {
    const { context, canvas, ready } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!ready) return;
    const frame = this.#frame();
    context.setTransform(frame.scale, 0, 0, frame.scale, frame.left, frame.top);
    context.imageSmoothingQuality = "medium";
    const [left, top, right, bottom] = ready.region;
    if (ready.bitmap)
      context.drawImage(ready.bitmap, left - frame.x0, top - frame.y0, right - left, bottom - top);
    const unit = this.ratio / frame.scale;
    if (this.paintOver) this.paintOver(context, frame, unit);
    else this.#mask(context, unit);
    if (ready.card.pixel) this.#cross(context, frame, unit);
    if (this.look.inset) this.#inset();
  }

  #mask(context, unit) {
    const { overlay, opacity, colour } = this.look;
    if (overlay === "none") return;
    if (overlay === "fill") {
      context.globalAlpha = opacity / 100;
      context.fillStyle = colour;
      context.fill(this.ready.path, "evenodd");
      context.globalAlpha = 1;
    }
    strokeTwice(context, this.ready.path, unit);
  }

  /** The point asked about, in the middle of its pixel. */
  #cross(context, { x0, y0 }, unit) {
    const x = this.ready.card.pixel[0] - x0 + 0.5;
    const y = this.ready.card.pixel[1] - y0 + 0.5;
    const path = new Path2D();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      path.moveTo(x + 5 * unit * dx, y + 5 * unit * dy);
      path.lineTo(x + 20 * unit * dx, y + 20 * unit * dy);
    }
    strokeTwice(context, path, unit, CONTRAST);
  }

  /** The whole image in a corner, with the part that is shown. */
  #inset() {
    const { context, canvas, ratio } = this;
    const {
      card,
      whole,
      region: [x0, y0, x1, y1],
    } = this.ready;
    if (!whole || (x1 - x0) * (y1 - y0) > 0.7 * card.width * card.height) return;
    const side = Math.min(180 * ratio, 0.26 * Math.min(canvas.width, canvas.height * 1.3));
    const scale = side / Math.max(card.width, card.height);
    const margin = 10 * ratio;
    const left = this.#insetLeft(card, card.width * scale, card.height * scale, margin);
    // In the left corner it goes below the caption.
    context.setTransform(1, 0, 0, 1, left, left === margin ? 44 * ratio : margin);
    context.fillStyle = "rgba(0, 0, 0, 0.8)";
    context.fillRect(-2 * ratio, -2 * ratio, card.width * scale + 4 * ratio, card.height * scale + 4 * ratio);
    context.drawImage(whole, 0, 0, card.width * scale, card.height * scale);
    const box = new Path2D();
    box.rect(x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
    strokeTwice(context, box, 0.75 * ratio, CONTRAST);
  }

  /** The right corner, unless the mask is there and not in the left one. */
  #insetLeft(card, width, height, margin) {
    const frame = this.#frame();
    const from = frame.left + (card.box[0] - frame.x0) * frame.scale;
    const to = frame.left + (card.box[2] - frame.x0) * frame.scale;
    const right = this.canvas.width - width - margin;
    const high = frame.top + (card.box[1] - frame.y0) * frame.scale < height + margin;
    return high && to > right && from > width + margin ? margin : right;
  }

  /** Zoom about a place of the canvas, in CSS pixels from its middle. */
  zoomBy(factor, x = 0, y = 0) {
    if (!this.ready) return;
    const zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, this.zoom * factor));
    const grown = zoom / this.zoom;
    this.panX = x - (x - this.panX) * grown;
    this.panY = y - (y - this.panY) * grown;
    this.zoom = zoom;
    this.draw();
    this.dispatchEvent(new Event("zoom"));
  }

  panBy(x, y) {
    if (!this.ready) return;
    this.panX += x;
    this.panY += y;
    this.draw();
  }

  /** Pan with an arrow key. @param {string} key @returns {boolean} whether it was one */
  arrow(key) {
    const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
    if (step) this.panBy(step[0] * PAN_STEP, step[1] * PAN_STEP);
    return Boolean(step);
  }

  fit() {
    this.reset();
    this.draw();
  }

  #fromMiddle({ clientX, clientY }) {
    const rect = this.canvas.getBoundingClientRect();
    return [clientX - rect.left - rect.width / 2, clientY - rect.top - rect.height / 2];
  }

  #listen() {
    const { canvas } = this;
    const fingers = new Map();
    let from = null;
    let moved = false;
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...this.#fromMiddle(event));
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      from = fingers.size === 1 ? event : null;
      moved = false;
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      fingers.set(event.pointerId, event);
      if (fingers.size === 2)
        this.#pinch(
          event,
          last,
          [...fingers.values()].find((other) => other !== event),
        );
      else if (this.#drags(event, from))
        this.panBy(event.clientX - last.clientX, event.clientY - last.clientY);
      moved ||= !from || Math.hypot(event.clientX - from.clientX, event.clientY - from.clientY) > 5;
    });
    const up = (event) => {
      if (!fingers.delete(event.pointerId) || !from || event.type === "pointercancel") return;
      if (!moved) this.dispatchEvent(new CustomEvent("tap", { detail: [event.clientX, event.clientY] }));
      else if (!this.#drags(event, from)) this.#swipe(event, from);
      from = null;
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
  }

  /** A finger moves the picture only when it is zoomed in; on the whole crop it swipes. */
  #drags(event) {
    return event.pointerType !== "touch" || !this.swipes || this.zoom > 1.01;
  }

  #swipe(event, from) {
    const x = event.clientX - from.clientX;
    if (Math.abs(x) < 60 || Math.abs(x) < 1.5 * Math.abs(event.clientY - from.clientY)) return;
    this.dispatchEvent(new CustomEvent("swipe", { detail: x > 0 ? "right" : "left" }));
  }

  #pinch(event, last, other) {
    const before = Math.hypot(last.clientX - other.clientX, last.clientY - other.clientY);
    const after = Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
    if (before > 0) this.zoomBy(after / before, ...this.#fromMiddle(event));
  }
}
