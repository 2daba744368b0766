/** The project's classes: names, colours, and how a few typed letters find one. */

/** How well a name fits what was typed: 0 best, null not at all. */
function fit(name, text) {
  const low = name.toLowerCase();
  if (low === text) return 0;
  if (low.startsWith(text)) return 1;
  if (low.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(text))) return 2;
  if (low.includes(text)) return 3;
  let at = -1;
  for (const letter of text) {
    at = low.indexOf(letter, at + 1);
    if (at < 0) return null;
  }
  return 4;
}

export class Classes {
  /** @param {{index: number, name: string, color: string}[]} list */
  constructor(list) {
    this.list = list;
    this.byIndex = new Map(list.map((one) => [one.index, one]));
  }

  /** @param {number|null} index -1 and null are void @returns {string} */
  name(index) {
    if (index === null || index < 0) return "unlabeled";
    return this.byIndex.get(index)?.name ?? `class ${index}`;
  }

  /** @returns {string} */
  colour(index) {
    return this.byIndex.get(index)?.color ?? "#8a8f98";
  }

  /** @param {number[]} indices @returns {string} `car + bus` */
  names(indices) {
    return indices.map((index) => this.name(index)).join(" + ");
  }

  /** Classes that fit what was typed, the best first. @param {string} typed */
  find(typed) {
    const text = typed.trim().toLowerCase();
    if (!text) return this.list;
    return this.list
      .map((one) => ({ one, rank: fit(one.name, text) }))
      .filter(({ rank }) => rank !== null)
      .sort((a, b) => a.rank - b.rank || a.one.index - b.one.index)
      .map(({ one }) => one);
  }
}
