package source

import "strings"

// ExportColumns is the header of our own export of entries as CSV. A file with exactly this header is read back as it
// was written.
var ExportColumns = []string{"address", "displayName", "state", "sources", "createTime", "updateTime"}

// formula are the characters that make a spreadsheet take a cell for something to run (OWASP, CSV injection).
const formula = "=+-@\t\r\n"

// Protected is the cell with an apostrophe before what a spreadsheet would take for a formula. A cell that looks as if
// it were protected already gets one more, so that Unprotected gives every cell back.
func Protected(cell string) string {
	if looksProtected(cell) || startsFormula(cell) {
		return "'" + cell
	}
	return cell
}

// Unprotected is the cell that Protected was given.
func Unprotected(cell string) string {
	if looksProtected(cell) {
		return cell[1:]
	}
	return cell
}

func looksProtected(cell string) bool {
	return strings.HasPrefix(cell, "'") && startsFormula(strings.TrimLeft(cell, "'"))
}

func startsFormula(cell string) bool {
	return cell != "" && strings.IndexByte(formula, cell[0]) >= 0
}

// MemberColumns is the header of the register's export as CSV, which can be imported again.
var MemberColumns = []string{
	"memberId", "displayName", "address", "otherAddresses", "state", "termStartTime", "termEndTime", "activeUntilTime", "createTime",
}
