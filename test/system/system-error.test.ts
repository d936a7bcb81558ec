import { describe, expect, it } from 'vitest';
import { AmbientError } from '../../src/errors/index.ts';
import { check, errnoName, libc, SystemError, UnsupportedPlatformError } from '../../src/system/index.ts';

describe('SystemError', () => {
  it('carries errno, its name as code, and the call', () => {
    const error = new SystemError({ syscall: 'bind', errno: 98, subject: '0.0.0.0:80' });
    expect(AmbientError.is(error)).toBe(true);
    expect(error).toMatchObject({
      name: 'SystemError',
      code: 'EADDRINUSE',
      errno: 98,
      syscall: 'bind',
      op: 'system.bind',
    });
    expect(error.message).toBe('system.bind: bind 0.0.0.0:80 failed with EADDRINUSE');
  });

  it('is what check() makes of a negative result, with the errno of that call', () => {
    expect(check(3, 'read')).toBe(3);
    expect(() => check(libc().close(-1), 'close', 'nothing', 'test.close')).toThrow(
      expect.objectContaining({ code: 'EBADF', errno: 9, op: 'test.close' }),
    );
  });

  it.each([
    [1, 'EPERM'],
    [110, 'ETIMEDOUT'],
    [99_999, 'E#99999'],
  ])('names errno %i %s', (errno, name) => expect(errnoName(errno)).toBe(name));

  it('an unsupported platform has a code of its own', () => {
    expect(new UnsupportedPlatformError('needs Linux')).toMatchObject({
      code: 'ERR_SYSTEM_UNSUPPORTED',
      message: 'system.load: needs Linux',
    });
  });
});
