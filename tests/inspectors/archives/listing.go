// Lists archives with Go's archive/tar. Reads one path per line, and writes a JSON list or null per line.
package main

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

func list(path string) [][]any {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	reader := tar.NewReader(file)
	members := [][]any{}
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return members
		}
		if err != nil {
			return nil
		}
		if header.Typeflag != tar.TypeXGlobalHeader && header.FileInfo().Mode().IsRegular() {
			members = append(members, []any{header.Name, header.Size})
		}
		if _, err := io.Copy(io.Discard, reader); err != nil {
			return nil
		}
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		text, _ := json.Marshal(list(lines.Text()))
		fmt.Println(string(text))
	}
}
