import type { Chances } from './chances.ts';
import type { Answer } from './compare.ts';
import type { Effect } from './evaluate-rule.ts';
import type { ViewSet } from './kernel-view.ts';
import { type Found, lookUpSet } from './look-up-set.ts';
import { type Bytes, hostBytes, networkBytes } from './registers.ts';

/** Values of a random number that are tried one by one; of more, only that there are two ways is said. */
const MAX_TRIED_VALUES = 4096;

/** A register with a number that the kernel makes up: from `offset` on, `modulus` of them. */
export interface RandomNumber {
  readonly modulus: number;
  readonly offset: number;
  readonly by: string;
  readonly bigEndian: boolean;
}

/** Who throws the dice, and what is told of it. */
interface Dice {
  readonly chances: Chances;
  readonly effects: Effect[];
}

/** A condition on a random number: one way where it holds, one where it does not, if there are both. */
export function holdsByChance(number: RandomNumber, dice: Dice, holds: (bytes: Bytes) => Answer): boolean {
  const { by, modulus } = number;
  let holding: number | undefined;
  if (modulus <= MAX_TRIED_VALUES) {
    holding = 0;
    for (let value = 0; value < modulus; value++) if (holds(valueBytes(number, value)) === true) holding++;
    if (holding === 0) return false;
    if (holding === modulus) return true;
  }
  const isTaken = dice.chances.choose(2) === 0;
  const share = holding === undefined ? undefined : (isTaken ? holding : modulus - holding) / modulus;
  dice.effects.push({
    kind: 'chance',
    by,
    taken: isTaken ? 'yes' : 'no',
    ...(share === undefined ? {} : { probability: share }),
  });
  return isTaken;
}

function valueBytes({ offset, bigEndian }: RandomNumber, value: number): number[] {
  return bigEndian ? networkBytes(offset + value, 4) : hostBytes(offset + value, 4);
}

/** One of the elements that a random number may find. */
export function elementByChance(set: ViewSet, number: RandomNumber, dice: Dice): Found {
  const { modulus, by } = number;
  if (modulus > MAX_TRIED_VALUES) return 'unknown';
  const shares = new Map<Found, number>();
  for (let value = 0; value < modulus; value++) {
    const found = lookUpSet(set, valueBytes(number, value));
    shares.set(found, (shares.get(found) ?? 0) + 1);
  }
  const ways = [...shares];
  if (ways.length === 1) return ways[0]![0];
  const taken = dice.chances.choose(ways.length);
  const [found, share] = ways[taken] ?? ways[0]!;
  dice.effects.push({ kind: 'chance', by, taken: `${taken + 1} of ${ways.length}`, probability: share / modulus });
  return found;
}
