import type { MeshFileError } from './errors.ts';
import { FollowedFile, type FollowOptions } from './followed-file.ts';
import type { MeshSnapshot } from './model.ts';
import { type MeshFileLimits, parseMeshFile } from './parse-mesh-file.ts';

export interface FileSourceOptions extends MeshFileLimits, FollowOptions {
  /**
   * Takes a new snapshot, the first one included: `(snapshot) => state.replace(snapshot)`. When it throws, the snapshot counts
   * as refused.
   */
  readonly onSnapshot: (snapshot: MeshSnapshot) => void;
}

/** A mesh file in force. Keeps the process alive until it is closed. */
export interface FileSource extends AsyncDisposable {
  /** What was last accepted. */
  readonly current: MeshSnapshot;
  /** Why the content that is there now was refused; undefined when it is the one in force. */
  readonly lastError: MeshFileError | undefined;
  /** Stops watching; no callback runs after it. Resolves when a read under way has ended. */
  close(): Promise<void>;
}

/**
 * Reads a mesh file (facts section 4.10, {@link parseMeshFile}) and keeps following it: written in place, renamed over, or
 * swapped by Kubernetes as a ConfigMap. A content with a fault is refused whole and what was in force stays in force; the same
 * when the file is gone. Write with a rename where you can: of a file filled in place, a part that happens to be complete
 * YAML looks like a whole.
 *
 * @throws {@link MeshFileError} when the first content is refused: nothing is watched then
 */
export async function createFileSource(options: FileSourceOptions): Promise<FileSource> {
  const source = new FollowedFile<MeshSnapshot>(options, {
    parse: (text) => parseMeshFile(options.path, text, options),
    onContent: options.onSnapshot,
  });
  await source.start();
  return source;
}
