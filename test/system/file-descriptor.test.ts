import { fstatSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FileDescriptor, libc, O_CLOEXEC, O_RDONLY, openFile } from '../../src/system/index.ts';

const open = () => openFile('/dev/null', O_RDONLY | O_CLOEXEC);

describe('FileDescriptor', () => {
  it('closes once, and never the file that got the number afterwards', () => {
    const first = open();
    const { fd } = first;
    first.close();
    expect(() => fstatSync(fd)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    using next = open();
    expect(next.fd).toBe(fd); // the kernel gives the lowest free number
    first.close();
    expect(fstatSync(next.fd).isCharacterDevice()).toBe(true);
  });

  it('does not name what it no longer owns', () => {
    const gone = expect.objectContaining({ code: 'ERR_SYSTEM_CLOSED', message: 'system.fd: /dev/null is closed' });
    const closed = open();
    closed.close();
    expect(closed.closed).toBe(true);
    expect(() => closed.fd).toThrow(gone);
    expect(() => closed.release()).toThrow(gone);
  });

  it('hands over: the new owner closes', () => {
    const first = open();
    const fd = first.release();
    first.close();
    expect(fstatSync(fd).isCharacterDevice()).toBe(true);
    new FileDescriptor(fd, 'new owner').close();
    expect(libc().close(fd)).toBe(-1);
  });

  it('closes at the end of its block', () => {
    let fd: number;
    {
      using file = open();
      fd = file.fd;
    }
    expect(() => fstatSync(fd)).toThrow();
  });

  it('opens nothing that is not there, and says which call failed', () => {
    expect(() => openFile('/never', O_RDONLY)).toThrow(
      expect.objectContaining({
        code: 'ENOENT',
        errno: 2,
        syscall: 'open',
        message: 'system.open: open /never failed with ENOENT',
      }),
    );
  });
});
