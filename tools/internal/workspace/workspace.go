// Package workspace knows which modules the repository has: those of go.work.
package workspace

import (
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
)

// Folders of the modules below root, as go.work has them: ./core.
func Folders(root string) ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork("go.work", raw, nil)
	if err != nil {
		return nil, err
	}
	var folders []string
	for _, use := range work.Use {
		folders = append(folders, use.Path)
	}
	return folders, nil
}
