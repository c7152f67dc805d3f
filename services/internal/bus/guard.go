package bus

// verdict is what becomes of an event, given the version that the copy has.
type verdict int

const (
	ignore  verdict = iota // the copy has it
	apply                  // its turn
	wait                   // something before it is missing
	replace                // a new numbering began: only a snapshot can follow
)

// judge is the version guard. held is zero when there is no copy.
func judge(delta bool, held, v Version) verdict {
	switch {
	case !held.Less(v):
		return ignore
	case !delta:
		return apply
	case held.IsZero() && v.Number == 1:
		return apply
	case held.IsZero():
		return wait
	case v.Epoch > held.Epoch:
		return replace
	case v.Number == held.Number+1:
		return apply
	default:
		return wait
	}
}
