// Opens a pipe through the kernel door, writes and reads it, and shows what a failed call looks like. Needs no root.
import { check, FileDescriptor, libc, O_CLOEXEC, SystemError } from '../src/system/index.ts';

const ends = new Int32Array(2);
check(libc().pipe2(ends, O_CLOEXEC), 'pipe2');
using reader = new FileDescriptor(ends[0]!, 'read end');
using writer = new FileDescriptor(ends[1]!, 'write end');

const text = Buffer.from('through the kernel and back');
check(libc().write(writer.fd, text, text.length), 'write');
const back = Buffer.alloc(64);
const length = check(libc().read(reader.fd, back, back.length), 'read');
console.log(back.toString('utf8', 0, length));

try {
  check(libc().listen(reader.fd, 1), 'listen', 'a pipe');
} catch (error) {
  if (error instanceof SystemError) console.log(`${error.syscall} → ${error.code} (errno ${error.errno})`);
}
