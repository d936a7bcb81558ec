import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { knownBytes } from '../../../src/cli/demo/pod-app.ts';

it('the known bytes are those of `openssl enc -aes-128-ctr` over zeros', () => {
  // head -c 1000000 /dev/zero | openssl enc -aes-128-ctr -K 0…0 -iv 0…0 | sha256sum
  const hash = createHash('sha256');
  let length = 0;
  for (const chunk of knownBytes(1_000_000)) {
    hash.update(chunk);
    length += chunk.length;
  }
  expect(length).toBe(1_000_000);
  expect(hash.digest('hex')).toBe('852664fc0fbfb9fcc624a6a88cb4a3952b629ae6ce1ed8df09b94626ecf9b8fe');
});

it('none are none', () => expect([...knownBytes(0)]).toEqual([]));
