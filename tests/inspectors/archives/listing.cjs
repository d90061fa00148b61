// Lists archives with npm's tar and tar-stream. Reads one path per line, and writes a JSON object per line.
const fs = require('fs')
const path = require('path')
const readline = require('readline')

const modules = process.env.KEYHOLE_TEST_NODE_MODULES
const npm = require(path.join(modules, 'tar'))
const stream = require(path.join(modules, 'tar-stream'))
// If a reader never finishes an archive, this is treated like an error.
const MILLISECONDS = 2000

function byNpm (file) {
  return new Promise(resolve => {
    const members = []
    let complained = false
    const parser = new npm.Parser({
      onReadEntry (entry) {
        if (/File$/.test(entry.type)) members.push([entry.path, entry.size])
        entry.resume()
      },
      onwarn () { complained = true }
    })
    parser.on('error', () => resolve(null))
    parser.on('end', () => resolve(complained ? null : members))
    parser.end(fs.readFileSync(file))
  })
}

function byStream (file) {
  return new Promise(resolve => {
    const members = []
    const extract = stream.extract()
    extract.on('entry', (header, content, next) => {
      if (/file$/.test(header.type)) members.push([header.name, header.size])
      content.on('end', next)
      content.resume()
    })
    extract.on('error', () => resolve(null))
    extract.on('finish', () => resolve(members))
    extract.end(fs.readFileSync(file))
  })
}

function late () {
  return new Promise(resolve => setTimeout(resolve, MILLISECONDS, null).unref())
}

async function main () {
  for await (const file of readline.createInterface({ input: process.stdin })) {
    const listed = {}
    for (const [name, list] of [['npm', byNpm], ['tar-stream', byStream]]) {
      try {
        listed[name] = await Promise.race([list(file), late()])
      } catch {
        listed[name] = null
      }
    }
    console.log(JSON.stringify(listed))
  }
  process.exit(0)
}

main()
