// Whether corners make a polygon. Pure: places in, a reason out.

/** Twice the area to the left of a line from a to b and on to c; negative to the right. */
const turn = (a, b, c) => (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);

const isWithin = (a, b, c) => [0, 1].every(k => Math.min(a[k], b[k]) <= c[k] && c[k] <= Math.max(a[k], b[k]));

/** Whether the lines a to b and c to d meet. */
function meet(a, b, c, d) {
  const [one, two, three, four] = [turn(a, b, c), turn(a, b, d), turn(c, d, a), turn(c, d, b)].map(Math.sign);
  if (one !== two && three !== four) return true;
  return (!one && isWithin(a, b, c)) || (!two && isWithin(a, b, d)) || (!three && isWithin(c, d, a)) || (!four && isWithin(c, d, b));
}

const isSame = (a, b) => a[0] === b[0] && a[1] === b[1];

/** Corners without those that repeat the one before; the last does not repeat the first. */
export const withoutRepeats = corners => corners.filter((one, k) => k === 0 || !isSame(one, corners[k - 1]))
  .filter((one, k, kept) => k === 0 || k < kept.length - 1 || !isSame(one, kept[0]));

function isCrossed(corners) {
  const number = corners.length;
  const side = k => [corners[k], corners[(k + 1) % number]];
  for (let i = 0; i < number; i += 1) {
    for (let j = i + 2; j < number; j += 1) {
      const areNeighbours = i === 0 && j === number - 1;
      if (!areNeighbours && meet(...side(i), ...side(j))) return true;
    }
  }
  return false;
}

/** What to do with corners that make no polygon. */
export const REMEDY = 'Move its corners, take some back with Undo (U), or leave it with Cancel (Escape).';

/** Why corners make no polygon, or an empty text. */
export function polygonFault(corners) {
  const kept = withoutRepeats(corners);
  if (kept.length < 3) return 'A polygon needs three corners.';
  if (isCrossed(kept)) return `Its sides cross. ${REMEDY}`;
  const area = kept.reduce((sum, one, k) => sum + turn([0, 0], one, kept[(k + 1) % kept.length]), 0);
  return area === 0 ? `Its corners lie on one line. ${REMEDY}` : '';
}
