package prosody

func Read(src Source) (*Configuration, error)                                        { return nil, nil }
func (s *Section) Option(name string) (Option, bool)                                 { return Option{}, false }
func (s *Section) Own(name string) (Option, bool)                                    { return Option{}, false }
func (s *Section) String(name string) (v string, at Position, ok bool, err error)    { return }
func (s *Section) Bool(name string) (v bool, at Position, ok bool, err error)        { return }
func (s *Section) Number(name string) (v float64, at Position, ok bool, err error)   { return }
func (s *Section) Strings(name string) (v []string, at Position, ok bool, err error) { return }
func (s *Section) Modules() []Module                                                 { return nil }
func (c *Configuration) Host(domain string) *Section                                 { return nil }
