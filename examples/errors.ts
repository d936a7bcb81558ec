// What an error of the library tells a program and a person: three that are thrown on purpose, told apart by their code and
// followed to their cause. Needs no root.
import { AmbientError, InvalidInputError } from '../src/errors/index.ts';
import { parseSpiffeId } from '../src/identity/index.ts';
import { parseCidr } from '../src/ip/index.ts';
import { openNamespace } from '../src/netns/index.ts';

const attempts: readonly [string, () => unknown][] = [
  ['an identity with a part too many', () => parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web/extra')],
  ['a range that is none', () => parseCidr('10.0.0.0/33', 'policies[0].sourceIps[2]')],
  ['a namespace that is not there', () => openNamespace('/run/netns/not-there')],
];

for (const [what, attempt] of attempts) {
  try {
    attempt();
  } catch (error) {
    // A bug is not ours to report as somebody's bad input.
    if (!AmbientError.is(error)) throw error;
    console.log(`${what}:`);
    console.log('  code   ', error.code);
    console.log('  op     ', error.op);
    if (error.field !== undefined) console.log('  field  ', error.field);
    console.log('  whose  ', error instanceof InvalidInputError ? "the caller's input" : 'the machine');
    console.log('  message', error.message);
    for (let { cause } = error; cause instanceof Error; { cause } = cause) console.log('  because', cause.message);
  }
}
