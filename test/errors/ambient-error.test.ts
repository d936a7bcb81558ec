import { describe, expect, it } from 'vitest';
import { AmbientError, InvalidInputError } from '../../src/errors/index.ts';

describe('AmbientError', () => {
  it('puts the operation and the field in front of the message, and keeps the cause', () => {
    const cause = new Error('beneath');
    const error = new AmbientError({ code: 'ERR_X', op: 'x.do', message: 'is wrong', field: 'rules[2].ip', cause });
    expect(error).toBeInstanceOf(Error);
    expect(error.message).toBe('x.do: rules[2].ip: is wrong');
    expect([error.code, error.op, error.field, error.cause]).toEqual(['ERR_X', 'x.do', 'rules[2].ip', cause]);
  });

  it('has neither field nor cause where there is none', () => {
    const error = new AmbientError({ code: 'ERR_X', op: 'x.do', message: 'failed' });
    expect(error.message).toBe('x.do: failed');
    expect(error.field).toBeUndefined();
    expect('cause' in error).toBe(false);
  });

  it('knows its own, those of another copy of the library, and nothing else', () => {
    const init = { code: 'ERR_X', op: 'x.do', message: 'failed' };
    expect(AmbientError.is(new InvalidInputError(init))).toBe(true);
    const foreign = Object.defineProperty(new Error('x'), Symbol.for('ambient-kit.error'), { value: true });
    expect(AmbientError.is(foreign)).toBe(true);
    for (const other of [new Error('x'), { code: 'ERR_X' }, null, undefined, 'ERR_X']) {
      expect(AmbientError.is(other)).toBe(false);
    }
  });

  it('does not show the mark when it is printed or copied', () => {
    expect(Object.getOwnPropertySymbols({ ...new AmbientError({ code: 'E', op: 'o', message: 'm' }) })).toEqual([]);
  });
});
