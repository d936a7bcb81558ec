/** One throw of the dice on the way. */
export interface Choice {
  /** How many ways there were. */
  readonly ways: number;
  /** Which one was taken, from 0. */
  readonly taken: number;
}

/**
 * Where the kernel throws dice (`numgen random`, `-m statistic`), a walk takes one way and remembers that there were others; another
 * walk with a script takes those. Which packets go which way, nobody can tell beforehand.
 */
export class Chances {
  readonly choices: Choice[] = [];
  readonly #script: readonly number[];

  /** @param script - which way to take the first times; the first one after that */
  constructor(script: readonly number[] = []) {
    this.#script = script;
  }

  /** @returns the way to take, from 0 to `ways` - 1 */
  choose(ways: number): number {
    const taken = this.#script[this.choices.length] ?? 0;
    this.choices.push({ ways, taken });
    return taken;
  }
}

/**
 * Walks every way there is, those of the last choice first.
 *
 * @param most - ways that are walked at most
 * @returns what each walk gave; `isCut` where there would be more
 */
export function everyWay<T>(walk: (chances: Chances) => T, most: number): { ways: T[]; isCut: boolean } {
  const ways: T[] = [];
  let script: number[] | undefined = [];
  while (script !== undefined) {
    if (ways.length === most) return { ways, isCut: true };
    const chances = new Chances(script);
    ways.push(walk(chances));
    script = nextScript(chances.choices);
  }
  return { ways, isCut: false };
}

function nextScript(choices: readonly Choice[]): number[] | undefined {
  const last = choices.findLastIndex(({ ways, taken }) => taken < ways - 1);
  if (last < 0) return undefined;
  return choices.slice(0, last + 1).map(({ taken }, i) => (i === last ? taken + 1 : taken));
}
