import { type BigIntStats, constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { MeshFileError, type MeshFileErrorInit } from './errors.ts';

/** The content of a file that stood still while it was read, or `moving` when it did not. */
export type SettledRead = { readonly kind: 'settled'; readonly bytes: Buffer } | { readonly kind: 'moving' };

/**
 * Reads a whole file, symbolic links followed, and sees that it was one file and one content from beginning to end: a writer
 * that truncates and fills, or a rename over it in the meantime, gives `moving`.
 *
 * @throws {@link MeshFileError} ERR_DISCOVERY_FILE_MISSING, ERR_DISCOVERY_FILE_READ, ERR_DISCOVERY_FILE_LIMIT
 */
export async function readSettled(path: string, maxBytes: number, signal?: AbortSignal): Promise<SettledRead> {
  signal?.throwIfAborted();
  try {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const before = await file.stat({ bigint: true });
    if (!before.isFile()) return fail('ERR_DISCOVERY_FILE_READ', path, 'not a regular file');
    if (before.size > maxBytes)
      return fail('ERR_DISCOVERY_FILE_LIMIT', path, `${before.size} bytes, more than ${maxBytes}`);
    const size = Number(before.size);
    const bytes = Buffer.alloc(size + 1);
    let length = 0;
    while (length <= size) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    const after = await stat(path, { bigint: true });
    if (length !== size || signatureOf(after) !== signatureOf(before)) return { kind: 'moving' };
    return { kind: 'settled', bytes: bytes.subarray(0, size) };
  } catch (cause) {
    if (cause instanceof MeshFileError || signal?.aborted) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return fail('ERR_DISCOVERY_FILE_MISSING', path, 'there is no such file', cause);
    return fail('ERR_DISCOVERY_FILE_READ', path, `cannot be read: ${code ?? String(cause)}`, cause);
  }
}

/** A text that differs whenever the file under a path is another one or was written to; `''` when it cannot be looked at. */
export async function fileSignature(path: string): Promise<string> {
  try {
    return signatureOf(await stat(path, { bigint: true }));
  } catch {
    return '';
  }
}

function signatureOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

function fail(code: MeshFileErrorInit['code'], path: string, message: string, cause?: unknown): never {
  throw new MeshFileError({ code, path, message, cause });
}
