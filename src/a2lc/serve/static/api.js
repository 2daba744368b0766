/** Requests to the server. `AwayError` says it cannot be reached, `ApiError` that it said no. */

/** The server answered with an error. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The server does not answer, or cannot at the moment. */
export class AwayError extends Error {}

const TIMEOUT = 20_000;

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT),
      ...options,
    });
  } catch {
    throw new AwayError("The server does not respond.");
  }
  if (response.status >= 500 || response.status === 429)
    throw new AwayError(`The server responded with status ${response.status}.`);
  if (response.ok) return response;
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // A proxy in between may answer with something else than JSON: the status says enough.
  }
  throw new ApiError(
    response.status,
    error.code ?? "unknown",
    error.message ?? `The server responded with status ${response.status}.`,
  );
}

async function json(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch {
    throw new AwayError("The reply was cut off.");
  }
}

const post = (path, body, options = {}) =>
  json(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    ...options,
  });

const query = (values) =>
  new URLSearchParams(
    Object.entries(values).filter(([, value]) => value !== undefined && value !== null),
  ).toString();

export const project = () => json("/api/project");
export const status = () => json("/api/status");
export const lease = (annotator, count, have) => post("/api/lease", { annotator, count, have });
export const release = (annotator, ids) => post("/api/release", { annotator, ids }, { keepalive: true });
export const grid = (annotator, count) => post("/api/grid", { annotator, count });
export const question = (id) => json(`/api/questions/${id}`);

/** Outlives the page where browsers allow it: they do up to 64 KiB. */
export function answers(annotator, list) {
  const size = JSON.stringify(list).length;
  return post("/api/answers", { annotator, answers: list }, { keepalive: size < 50_000 });
}

export const history = (annotator, limit) => json(`/api/history?${query({ annotator, limit })}`);
export const parts = (id, body) => post(`/api/questions/${id}/parts`, body);
export const spread = (values = {}) => json(`/api/spread?${query(values)}`);
export const acceptSpread = (annotator, threshold, rejected) =>
  post("/api/spread/accept", { annotator, threshold, rejected });
export const finishRound = (annotator) => post("/api/round/finish", { annotator });
export const undoSpread = (annotator) => post("/api/spread/undo", { annotator });
export const dashboard = () => json("/api/dashboard");
export const exportLabels = (annotator) => post("/api/export", { annotator });

/**
 * Sizes are rounded up, so that a window dragged by a pixel finds the same pictures in the browser's cache.
 */
const rounded = (size) => Math.min(2048, Math.max(64, Math.ceil(size / 128) * 128));

/**
 * Address of the picture of a region.
 * @param {number} image
 * @param {number[]} region x0, y0, x1, y1
 * @param {number} size long side in device pixels
 */
export function cropUrl(image, [x0, y0, x1, y1], size) {
  return `/api/images/${image}/crop.jpg?${query({ x0, y0, x1, y1, size: rounded(size) })}`;
}

/** @returns {string} address of a small picture of the whole image */
export const wholeUrl = (image, size) => `/api/images/${image}/whole.jpg?size=${rounded(size)}`;

/** A picture, decoded and ready to draw. @param {string} url @returns {Promise<ImageBitmap>} */
export async function picture(url) {
  const response = await request(url);
  return createImageBitmap(await response.blob());
}
